"""A generated set whose classes are related: Gaussians whose centres have diffused down a tree."""

from __future__ import annotations

import math

import torch

from ddn_etf.data._draws import seeded_generator
from ddn_etf.data._naming import fingerprint, with_changes
from ddn_etf.data.dataset import Dataset
from ddn_etf.hierarchy.tree import Hierarchy
from ddn_etf.validation import check_count, check_real

__all__ = ["hierarchical_mixture"]


def hierarchical_mixture(
    hierarchy: Hierarchy,
    *,
    dim: int = 32,
    noise: float = 1.2,
    train_per_class: int = 100,
    test_per_class: int = 100,
    seed: int = 0,
) -> Dataset:
    """Points x = c_y + σ ε/√p in R^p with class centres c from a Brownian motion down the tree.

    The root lies at 0. From a node of height a to its child of height b the centre moves by a
    Gaussian vector of expected squared length (a - b)/D_max, so that

        E ‖c_i - c_j‖² = 2 D_ij/D_max :

    squared distances of centres follow the tree, as Felsenstein's (1973) model of traits that
    evolve. The noise of a sample has the expected squared length σ², so that classes are confused
    with their nearest relatives first.

    Args:
        hierarchy: over K classes.
        dim: p, the dimension of the points.
        noise: σ > 0, the length of the noise; the way from the root to a leaf has length 1.
        train_per_class: training samples of each class.
        test_per_class: test samples of each class.
        seed: decides centres and samples; the samples of the two splits are independent.

    Returns:
        Inputs (N, p) in float32; classes as in ``hierarchy``, which goes with the set; samples in
        random order. The name of the set has a fingerprint of the tree, and the arguments that are
        not the defaults.

    Raises:
        TypeError: a number that must be an integer is none, or no hierarchy.
        ValueError: a size below 1, or noise that is not a positive number.
    """
    if not isinstance(hierarchy, Hierarchy):
        raise TypeError(f"hierarchy must be a Hierarchy, found {type(hierarchy).__name__}")
    check_count("dim", dim, 1)
    check_count("train_per_class", train_per_class, 1)
    check_count("test_per_class", test_per_class, 1)
    check_real("noise", noise)
    if not 0 < noise < math.inf:
        raise ValueError(f"noise must be a positive number, found {noise}")
    generator = seeded_generator(seed)
    heights = torch.tensor(hierarchy.heights, dtype=torch.float64, device="cpu")
    parents = torch.tensor(hierarchy.parents[1:], dtype=torch.int64, device="cpu")

    def gaussian(rows: int) -> torch.Tensor:
        return torch.randn(rows, dim, generator=generator, dtype=torch.float64, device="cpu")

    steps = gaussian(len(heights))
    variances = (heights[parents] - heights[1:]) / hierarchy.height
    steps[1:] *= (variances / dim).sqrt().unsqueeze(1)
    centers = torch.zeros_like(steps)
    for node, parent in enumerate(hierarchy.parents[1:], start=1):
        centers[node] = centers[parent] + steps[node]
    centers = centers[list(hierarchy.leaves)]

    def draw(per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(hierarchy.num_classes, device="cpu").repeat_interleave(per_class)
        labels = labels[torch.randperm(len(labels), generator=generator, device="cpu")]
        points = centers[labels] + noise / math.sqrt(dim) * gaussian(len(labels))
        return points.to(torch.float32), labels

    train_inputs, train_labels = draw(train_per_class)
    test_inputs, test_labels = draw(test_per_class)
    # Nodes in another order draw other centres.
    nodes = torch.stack([heights[1:], parents.double()], dim=1)
    tree = fingerprint(torch.cat([nodes.flatten(), torch.tensor(hierarchy.leaves, device="cpu")]))
    name = with_changes(
        f"hierarchical mixture, {hierarchy.num_classes} classes ({tree})",
        dim=(dim, 32),
        noise=(noise, 1.2),
        train_per_class=(train_per_class, 100),
        test_per_class=(test_per_class, 100),
        seed=(seed, 0),
    )
    return Dataset(
        name=name,
        num_classes=hierarchy.num_classes,
        train_inputs=train_inputs,
        train_labels=train_labels,
        test_inputs=test_inputs,
        test_labels=test_labels,
        hierarchy=hierarchy,
    )
