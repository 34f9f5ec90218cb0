from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ddn_etf.data.hierarchical import hierarchical_mixture
from ddn_etf.hierarchy import Hierarchy, balanced_hierarchy
from tests.ddn_etf.hierarchy.cases import UNEVEN


def centres(dataset):
    sums = torch.zeros(dataset.num_classes, dataset.input_shape[0])
    sums.index_add_(0, dataset.train_labels, dataset.train_inputs)
    return sums / torch.bincount(dataset.train_labels).unsqueeze(1)


def test_shapes_and_seeds():
    hierarchy = Hierarchy.from_mapping(UNEVEN)
    sets = [
        hierarchical_mixture(hierarchy, dim=5, train_per_class=4, test_per_class=3, seed=seed)
        for seed in (0, 0, 1)
    ]
    first = sets[0]
    assert first.num_classes == 7
    assert first.train_inputs.shape == (28, 5)
    assert first.train_inputs.dtype == torch.float32
    assert torch.bincount(first.train_labels).tolist() == [4] * 7
    assert torch.bincount(first.test_labels).tolist() == [3] * 7
    assert not torch.equal(first.train_labels, first.train_labels.sort().values)
    assert torch.equal(first.test_inputs, sets[1].test_inputs)
    assert not torch.equal(first.test_inputs, sets[2].test_inputs)


@pytest.mark.parametrize("mapping", [UNEVEN, {"a": ["b", "c"], "d": ["e", "f"]}])
def test_squared_distances_of_centres_follow_the_tree(mapping):
    hierarchy = Hierarchy.from_mapping(mapping)
    # In many dimensions a squared distance is close to its expectation.
    dataset = hierarchical_mixture(hierarchy, dim=20000, noise=1e-3, train_per_class=1)
    means = centres(dataset)
    D = hierarchy.distances
    expected = (2 * D / hierarchy.height).float()
    assert_close(torch.cdist(means, means).square(), expected, rtol=0.1, atol=1e-4)
    assert_close(means.square().sum(dim=1), torch.ones(hierarchy.num_classes), rtol=0.1, atol=0)


def test_noise_has_its_length():
    dataset = hierarchical_mixture(balanced_hierarchy((2, 2)), dim=50, noise=3.0)
    deviations = dataset.train_inputs - centres(dataset)[dataset.train_labels]
    assert deviations.square().sum(dim=1).mean().sqrt().item() == pytest.approx(3.0, rel=0.05)


def test_a_thousand_classes():
    dataset = hierarchical_mixture(
        balanced_hierarchy((10, 10, 10)), dim=8, train_per_class=2, test_per_class=1
    )
    assert dataset.num_classes == 1000
    assert len(dataset.train_labels) == 2000


def test_bad_arguments():
    hierarchy = Hierarchy.from_mapping(UNEVEN)
    with pytest.raises(ValueError, match="noise must be a positive number"):
        hierarchical_mixture(hierarchy, noise=0.0)
    for name in ("dim", "train_per_class", "test_per_class"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            hierarchical_mixture(hierarchy, **{name: 0})
