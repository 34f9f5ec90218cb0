from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from ddn_etf.data import find_dataset, gaussian_mixture
from ddn_etf.errors import FrameSizeError


@pytest.mark.parametrize(("num_classes", "dim"), [(2, 1), (4, 3), (5, 9)])
def test_centres_are_the_separation_apart(num_classes, dim):
    dataset = gaussian_mixture(num_classes, dim, separation=6.0, train_per_class=20_000)
    means = torch.stack(
        [dataset.train_inputs[dataset.train_labels == k].mean(dim=0) for k in range(num_classes)]
    )
    distances = torch.pdist(means)
    assert (distances - 6).abs().max() < 0.1  # the mean of 20 000 is off by 0.01 per coordinate
    spread = dataset.train_inputs - means[dataset.train_labels]
    assert (spread.std(dim=0) - 1).abs().max() < 0.02


def test_the_best_rule_for_two_classes_errs_as_often_as_stated():
    dataset = gaussian_mixture(2, 5, separation=2.0, test_per_class=20_000)
    means = torch.stack([dataset.test_inputs[dataset.test_labels == k].mean(0) for k in (0, 1)])
    nearest = torch.cdist(dataset.test_inputs, means).argmin(dim=1)
    error = (nearest != dataset.test_labels).double().mean().item()
    assert abs(error - norm.cdf(-1)) < 0.01


def test_more_classes_than_a_simplex_has_room_for():
    dataset = gaussian_mixture(200, 20, separation=5.0, train_per_class=200)
    means = dataset.train_inputs.reshape(200, 200, 20).mean(dim=1)
    mean_square = torch.pdist(means).square().mean()
    assert abs(mean_square.sqrt().item() - 5) < 0.3


def test_seeds():
    first, second, other = (gaussian_mixture(3, 4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train_inputs, second.train_inputs)
    assert torch.equal(first.test_inputs, second.test_inputs)
    assert not torch.equal(first.train_inputs, other.train_inputs)
    assert not torch.equal(first.train_inputs, first.test_inputs)


def test_sizes_and_registry():
    dataset = gaussian_mixture(3, 4, train_per_class=5, test_per_class=2)
    assert dataset.train_inputs.shape == (15, 4)
    assert dataset.train_counts == [5, 5, 5]
    assert dataset.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.train_inputs.dtype == torch.float32
    assert find_dataset("gaussian-mixture").load().num_classes == 10


def test_numbers_out_of_range():
    with pytest.raises(FrameSizeError, match="num_classes is 1"):
        gaussian_mixture(1)
    with pytest.raises(ValueError, match="dim must be at least 1, found 0"):
        gaussian_mixture(3, 0)
    with pytest.raises(ValueError, match="train_per_class must be at least 1"):
        gaussian_mixture(train_per_class=0)
    with pytest.raises(ValueError, match="separation must be a number of at least 0"):
        gaussian_mixture(separation=-1)
