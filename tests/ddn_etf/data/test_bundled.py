from __future__ import annotations

import pytest
import torch

from ddn_etf.data import DATASETS, digits, find_dataset


def test_digits_are_the_1797_bundled_images_split_without_overlap():
    dataset = digits()
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.num_classes == 10
    assert len(dataset.train_labels) == 1347
    assert len(dataset.test_labels) == 450
    train = {tuple(image) for image in dataset.train_inputs.flatten(1).tolist()}
    test = {tuple(image) for image in dataset.test_inputs.flatten(1).tolist()}
    assert len(train) + len(test) == 1797  # the data holds no image twice
    assert not train & test


def test_digits_are_stratified():
    dataset = digits(test_size=360)
    train = torch.bincount(dataset.train_labels) / len(dataset.train_labels)
    test = torch.bincount(dataset.test_labels) / len(dataset.test_labels)
    assert (train - test).abs().max() < 1 / 360


def test_digits_are_standardised_on_the_train_split():
    inputs = digits().train_inputs
    assert inputs.dtype == torch.float32
    assert abs(inputs.mean().item()) < 1e-6
    assert abs(inputs.std(correction=0).item() - 1) < 1e-6


def test_the_split_is_the_same_in_every_call():
    first = digits()
    torch.manual_seed(1)
    second = digits()
    assert torch.equal(first.train_inputs, second.train_inputs)
    assert torch.equal(first.test_labels, second.test_labels)


def test_the_registry_has_them():
    dataset = find_dataset("digits").load()
    assert dataset.name == "digits"
    assert torch.equal(dataset.train_labels, digits().train_labels)


def test_the_leaves_of_the_hierarchy_are_the_digits_in_order():
    tree = digits().hierarchy
    assert tree.leaf_names == tuple("0123456789")


@pytest.mark.parametrize("name", [name for name, each in DATASETS.items() if not each.needs_files])
def test_the_registry_knows_which_sets_have_a_hierarchy(name):
    assert (find_dataset(name).load().hierarchy is not None) == DATASETS[name].has_hierarchy


def test_the_hierarchical_mixture_of_the_registry():
    dataset = find_dataset("hierarchical-mixture").load()
    assert (dataset.num_classes, dataset.input_shape) == (64, (32,))
    assert dataset.hierarchy.leaf_names[:5] == ("0.0.0", "0.0.1", "0.0.2", "0.0.3", "0.1.0")
