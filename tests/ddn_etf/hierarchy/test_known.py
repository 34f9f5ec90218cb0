from __future__ import annotations

import pytest
import torch

from ddn_etf.hierarchy import (
    HierarchyError,
    balanced_hierarchy,
    cifar100_superclasses,
    digit_shapes,
)


def test_cifar100():
    hierarchy = cifar100_superclasses()
    assert hierarchy.num_classes == 100
    # The fine labels of the data files are the names in alphabetical order.
    names = list(hierarchy.leaf_names)
    assert names == sorted(names)
    assert (names[0], names[1], names[53], names[99]) == (
        "apple",
        "aquarium_fish",
        "orange",
        "worm",
    )
    assert len(hierarchy.names) == 1 + 20 + 100
    D = hierarchy.distances
    values, counts = D.unique(return_counts=True)
    assert values.tolist() == [0, 1, 2]
    assert counts.tolist() == [100, 400, 9500]
    assert D[names.index("maple_tree"), names.index("oak_tree")] == 1
    assert D[names.index("maple_tree"), names.index("rose")] == 2


def test_digits():
    D = digit_shapes().distances
    assert digit_shapes().leaf_names == tuple("0123456789")
    groups = [set(torch.nonzero(D[digit] <= 1).flatten().tolist()) for digit in (0, 1, 2)]
    assert groups == [{0, 6, 8, 9}, {1, 4, 7}, {2, 3, 5}]


def test_balanced():
    hierarchy = balanced_hierarchy((2, 3, 4))
    assert hierarchy.num_classes == 24
    assert hierarchy.height == 3
    assert hierarchy.leaf_names[:5] == ("0.0.0", "0.0.1", "0.0.2", "0.0.3", "0.1.0")
    assert hierarchy.distances[0].unique(return_counts=True)[1].tolist() == [1, 3, 8, 12]
    with pytest.raises(HierarchyError, match="branching is empty"):
        balanced_hierarchy(())
    with pytest.raises(ValueError, match=r"branching\[1\] must be at least 2"):
        balanced_hierarchy((2, 1))
    with pytest.raises(TypeError, match=r"branching must be a sequence such as \(4, 4\)"):
        balanced_hierarchy(3)
