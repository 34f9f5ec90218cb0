"""Wrong types and values: a clear word, and never other samples than were meant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ddn.errors import DtypeError, ShapeError
from ddn_etf.data import (
    AsymmetricNoise,
    ChannelStatistics,
    Dataset,
    ExponentialProfile,
    ResizeAndCrop,
    StepProfile,
    SymmetricNoise,
    digits,
    find_dataset,
    gaussian_mixture,
    hierarchical_mixture,
    image_dataset,
    imbalanced,
    imbalanced_counts,
    noisy,
    noisy_labels,
)
from ddn_etf.errors import LabelError
from ddn_etf.hierarchy import digit_shapes
from ddn_etf.protocols import few_shot_sessions

POINTS, LABELS = torch.randn(6, 2), torch.arange(6) % 2
GOOD = Dataset("points", 2, POINTS, LABELS, POINTS, LABELS)


class Shares:
    def __init__(self, *shares):
        self.given = shares

    def shares(self, num_classes):
        return self.given


class Transition:
    def transition(self, num_classes):
        return torch.eye(num_classes + 1)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"train_labels": LABELS + 0.5}, DtypeError, "points: train_labels must be integer"),
        ({"test_labels": LABELS.bool()}, DtypeError, "points: test_labels must be integer"),
        ({"test_labels": LABELS.numpy()}, DtypeError, r"found ndarray; convert with torch.as_"),
        ({"test_labels": LABELS[:, None]}, ShapeError, r"must have shape \(N,\).*\(6, 1\)"),
        ({"train_inputs": POINTS.numpy()}, DtypeError, "train_inputs must be a tensor"),
        ({"train_inputs": POINTS.byte()}, DtypeError, r"train_inputs .* torch\.uint8.*\.float"),
        ({"num_classes": 2.0}, TypeError, "num_classes must be an integer"),
        ({"hierarchy": {"a": None, "b": None}}, TypeError, r"must be a Hierarchy.*from_mapping"),
        ({"name": None}, TypeError, "name must be a text"),
    ],
)
def test_data_sets(change, error, text):
    with pytest.raises(error, match=text):
        replace(GOOD, **change)


def test_labels_of_other_integers_are_converted():
    found = replace(GOOD, train_labels=LABELS.to(torch.int16))
    assert found.train_labels.dtype == torch.int64
    assert found.train_counts == [3, 3]


def test_selections():
    with pytest.raises(DtypeError, match="tensor of integers, found list"):
        GOOD.select_train([0, 1])
    with pytest.raises(DtypeError, match=r"torch\.bool; of a mask, torch\.nonzero"):
        GOOD.select_train(LABELS == 1)
    with pytest.raises(ShapeError, match=r"\(n,\), found \(2, 3\)"):
        GOOD.select_train(LABELS.reshape(2, 3))
    with pytest.raises(DtypeError, match="labels must be integer"):
        GOOD.relabel_train(LABELS + 0.9)


@pytest.mark.parametrize(
    ("counts", "error", "text"),
    [
        ([], LabelError, "available is empty"),
        ([5, float("nan")], LabelError, r"available\[1\] is nan"),
        ([5, 1.5], LabelError, r"available\[1\] is 1.5"),
        ([5, -1], LabelError, r"available\[1\] is -1"),
        (torch.tensor([5.0, torch.inf]), LabelError, r"available\[1\] is inf"),
        ([[5, 1]], LabelError, "one number per class"),
        ([5, "1"], TypeError, r"available\[1\] must be a number"),
        (5, TypeError, "must be a sequence"),
    ],
)
def test_counts(counts, error, text):
    with pytest.raises(error, match=text):
        imbalanced_counts(counts, ExponentialProfile(1))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda c: torch.tensor(c).half()])
def test_counts_of_any_type(kind):
    found = imbalanced_counts(kind([60, 60, 60]), StepProfile(3))
    assert found == [60, 60, 20]
    assert all(type(count) is int for count in found)


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 0.0), (1.0, float("nan")), (1.0, 2.0)])
def test_shares_of_a_profile(shares):
    with pytest.raises(ValueError, match=r"shares for 2 classes|must lie in \(0, 1\]"):
        imbalanced(GOOD, Shares(*shares))


@pytest.mark.parametrize("value", [True, "5", None, torch.tensor(2.0)])
def test_settings_that_are_no_numbers(value):
    for make in (
        ExponentialProfile,
        StepProfile,
        lambda v: StepProfile(2, v),
        SymmetricNoise,
        AsymmetricNoise,
        lambda v: gaussian_mixture(separation=v),
        lambda v: hierarchical_mixture(digit_shapes(), noise=v),
        lambda v: ResizeAndCrop(8, v),
    ):
        with pytest.raises(TypeError, match="must be a number, found"):
            make(value)


@pytest.mark.parametrize("seed", [True, 1.5, "0", None, np.int64(1)])
def test_seeds(seed):
    for make in (
        lambda: imbalanced(GOOD, ExponentialProfile(1), seed=seed),
        lambda: noisy(GOOD, SymmetricNoise(0.1), seed=seed),
        lambda: gaussian_mixture(seed=seed),
        lambda: hierarchical_mixture(digit_shapes(), seed=seed),
        lambda: few_shot_sessions(GOOD, base=1, way=1, shot=1, seed=seed),
    ):
        with pytest.raises(TypeError, match="seed must be an integer"):
            make()
    with pytest.raises(ValueError, match="seed must be at least 0"):
        gaussian_mixture(seed=-1)


def test_classes_in_place_of_instances():
    with pytest.raises(TypeError, match=r"such as ExponentialProfile\(100\), found <class"):
        imbalanced(GOOD, ExponentialProfile)
    with pytest.raises(TypeError, match=r"such as SymmetricNoise\(0.4\), found <class"):
        noisy(GOOD, SymmetricNoise)
    with pytest.raises(TypeError, match="hierarchy must be a Hierarchy"):
        hierarchical_mixture(digit_shapes)


def test_noise():
    T = torch.eye(2)
    with pytest.raises(DtypeError, match=r"labels must be integer .*float32.*\.long"):
        noisy_labels(torch.tensor([0.0, 1.7]), T)
    with pytest.raises(DtypeError, match="labels must be a tensor, found list"):
        noisy_labels([0, 1], T)
    with pytest.raises(ShapeError, match=r"labels must have shape \(N,\)"):
        noisy_labels(LABELS[:, None], T)
    with pytest.raises(DtypeError, match="transition must be a tensor"):
        noisy_labels(LABELS, T.numpy())
    with pytest.raises(ValueError, match="row 0 of transition is no distribution"):
        noisy_labels(LABELS, T * torch.nan)
    with pytest.raises(ShapeError, match="is for 3 classes, and points has 2"):
        noisy(GOOD, Transition())
    with pytest.raises(TypeError, match="must be a mapping"):
        AsymmetricNoise(0.1, [(0, 1)])
    with pytest.raises(TypeError, match=r"confused_with\[0\] must be an integer"):
        AsymmetricNoise(0.1, {0: 1.0})


def test_images():
    pixels = np.zeros((4, 1, 3, 3), np.uint8)
    labels = np.arange(4) % 2
    with pytest.raises(DtypeError, match="train labels must be integers, found float64"):
        image_dataset("a", 2, (pixels, labels + 0.9), (pixels, labels))
    with pytest.raises(TypeError, match=r"test must be a pair \(pixels, labels\)"):
        image_dataset("a", 2, (pixels, labels), pixels)
    with pytest.raises(DtypeError, match="array of NumPy is needed"):
        ChannelStatistics.of(torch.zeros(4, 1, 3, 3, dtype=torch.uint8))
    with pytest.raises(ShapeError, match="have no mean"):
        ChannelStatistics.of(pixels[:0])
    with pytest.raises(ShapeError, match="1 channels and the statistics 2"):
        ChannelStatistics((0.0, 0.0), (1.0, 1.0)).standardize(pixels)
    with pytest.raises(ValueError, match="one number per channel"):
        ChannelStatistics((0.0, 0.0), (1.0,))
    with pytest.raises(ValueError, match="at least 0"):
        ChannelStatistics((0.0,), (float("nan"),))


def test_registry_and_sizes():
    with pytest.raises(TypeError, match="looked up by its name, found None; known: digits"):
        find_dataset(None)
    with pytest.raises(TypeError, match="test_size must be an integer"):
        digits(test_size=0.25)
    with pytest.raises(ValueError, match="test_size must be at most 1787"):
        digits(test_size=1790)


def test_the_default_device_has_no_say():
    expected = imbalanced(digits(), ExponentialProfile(9)), gaussian_mixture(4, 2)
    with torch.device("meta"):
        found = imbalanced(digits(), ExponentialProfile(9)), gaussian_mixture(4, 2)
        wrong, flipped = noisy(found[0], SymmetricNoise(0.3))
        tree = hierarchical_mixture(digit_shapes())
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.train_inputs, other.train_inputs)
        assert one.name == other.name
    assert flipped.device.type == wrong.train_labels.device.type == "cpu"
    assert torch.equal(tree.test_inputs, hierarchical_mixture(digit_shapes()).test_inputs)
