from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddn.errors import ShapeError
from ddn_etf.data import digits
from ddn_etf.errors import LabelError


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


def test_a_split_with_too_few_labels(small_digits):
    with pytest.raises(ShapeError, match="train split has 300 inputs but 299 labels"):
        replace(small_digits, train_labels=small_digits.train_labels[1:])


def test_splits_of_different_shape(small_digits):
    with pytest.raises(ShapeError, match=r"\(1, 8, 8\), test inputs \(1, 8, 7\)"):
        replace(small_digits, test_inputs=small_digits.test_inputs[..., 1:])


def test_labels_out_of_range(small_digits):
    with pytest.raises(LabelError, match="train labels run from 0 to 9"):
        replace(small_digits, num_classes=9)


def test_an_empty_split(small_digits):
    with pytest.raises(LabelError, match="test split is empty"):
        replace(
            small_digits,
            test_inputs=small_digits.test_inputs[:0],
            test_labels=small_digits.test_labels[:0],
        )
