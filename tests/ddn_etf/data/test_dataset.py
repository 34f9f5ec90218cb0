from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from ddn.errors import DtypeError, ShapeError
from ddn_etf.batches import ShuffledBatches
from ddn_etf.data import Dataset
from ddn_etf.errors import LabelError
from ddn_etf.hierarchy import Hierarchy, HierarchyError


@pytest.fixture
def dataset() -> Dataset:
    """Inputs that tell which sample they are of."""
    return Dataset(
        "numbers",
        3,
        torch.arange(12.0).reshape(12, 1, 1, 1),
        torch.arange(12) % 3,
        torch.arange(6.0).reshape(6, 1, 1, 1),
        torch.arange(6) % 3,
    )


def test_a_split_with_too_few_labels(dataset):
    with pytest.raises(ShapeError, match="train split has 12 inputs but 11 labels"):
        replace(dataset, train_labels=dataset.train_labels[1:])


def test_splits_of_different_shape(dataset):
    with pytest.raises(ShapeError, match=r"\(1, 1, 1\), test inputs \(1, 1, 0\)"):
        replace(dataset, test_inputs=dataset.test_inputs[..., 1:])


def test_labels_out_of_range(dataset):
    with pytest.raises(LabelError, match="train labels run from 0 to 2"):
        replace(dataset, num_classes=2)


def test_a_hierarchy_goes_with_the_set_and_with_parts_of_it(dataset):
    assert dataset.hierarchy is None
    assert dataset.class_distances is None
    tree = Hierarchy.from_mapping({"pet": ["cat", "dog"], "car": None})
    related = replace(dataset, hierarchy=tree)
    assert related.class_distances.tolist() == [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    assert related.select_train(torch.tensor([3, 1])).hierarchy is tree
    assert related.relabel_train(related.train_labels.flip(0)).hierarchy is tree


def test_a_hierarchy_of_other_classes(dataset):
    tree = Hierarchy.from_mapping({"a": None, "b": None})
    with pytest.raises(HierarchyError, match="has 2 leaves and the set 3 classes"):
        replace(dataset, hierarchy=tree)


def test_an_empty_split(dataset):
    with pytest.raises(LabelError, match="test split is empty"):
        replace(
            dataset,
            test_inputs=dataset.test_inputs[:0],
            test_labels=dataset.test_labels[:0],
        )


def test_a_loader_fetches_whole_batches_of_a_split(dataset):
    batches = ShuffledBatches(12, 4, seed=0)
    loader = DataLoader(dataset.train_split, sampler=batches, batch_size=None)
    for indices, (inputs, labels) in zip(batches, loader, strict=True):
        assert inputs.flatten().tolist() == indices
        assert labels.tolist() == [index % 3 for index in indices]


def test_a_loader_collates_single_samples_of_a_split(dataset):
    inputs, labels = next(iter(DataLoader(dataset.test_split, batch_size=6)))
    assert torch.equal(inputs, dataset.test_inputs)
    assert torch.equal(labels, dataset.test_labels)


def test_train_samples_are_selected_with_their_labels(dataset):
    selected = dataset.select_train(torch.tensor([7, 2, 2]))
    assert selected.train_inputs.flatten().tolist() == [7, 2, 2]
    assert selected.train_labels.tolist() == [1, 2, 2]
    assert selected.test_inputs is dataset.test_inputs
    assert selected.train_counts == [0, 1, 2]


def test_indices_that_select_nothing_or_too_much(dataset):
    with pytest.raises(IndexError, match="indices run from 0 to 12, but numbers has 12"):
        dataset.select_train(torch.tensor([0, 12]))
    with pytest.raises(IndexError, match="indices run from -1"):
        dataset.select_train(torch.tensor([-1]))
    with pytest.raises(LabelError, match="train split is empty"):
        dataset.select_train(torch.tensor([], dtype=torch.int64))
    with pytest.raises(DtypeError, match=r"indices must be integers, found torch\.bool"):
        dataset.select_train(dataset.train_labels == 1)


def test_relabelling_is_checked(dataset):
    assert dataset.relabel_train(torch.zeros(12, dtype=torch.int64)).train_counts == [12, 0, 0]
    with pytest.raises(LabelError, match="train labels run from 3 to 3"):
        dataset.relabel_train(torch.full((12,), 3))
    with pytest.raises(ShapeError, match="12 inputs but 2 labels"):
        dataset.relabel_train(torch.zeros(2, dtype=torch.int64))
