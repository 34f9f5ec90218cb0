"""Long-tailed data: accuracy by how often a class was seen in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.errors import LabelError

__all__ = ["frequency_groups", "group_accuracies"]


def frequency_groups(
    counts: Sequence[int], *, many: int = 100, few: int = 20
) -> dict[str, list[int]]:
    """Classes with more than ``many`` train samples, with fewer than ``few``, and the others.

    Liu, Miao, Zhan, Wang, Gong and Yu, "Large-Scale Long-Tailed Recognition in an Open World" (2019).

    Args:
        counts: train samples of each class, (K,); see
            :attr:`ddn_etf.data.Dataset.train_counts`.
        many: above this a class has many.
        few: below this a class has few.

    Returns:
        ``{"many": [...], "medium": [...], "few": [...]}``; a list may be empty.

    Raises:
        ValueError: ``few`` is above ``many`` + 1, so that a class could have both.
    """
    if few > many + 1:
        raise ValueError(f"few = {few} and many = {many} overlap; few may be at most many + 1")
    groups: dict[str, list[int]] = {"many": [], "medium": [], "few": []}
    for label, count in enumerate(counts):
        groups["many" if count > many else "few" if count < few else "medium"].append(label)
    return groups


def group_accuracies(
    predicted: Tensor, labels: Tensor, groups: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """Accuracy in per cent of each group: the mean of the accuracies of its classes.

    So every class counts the same, whatever the test split holds of it.

    Args:
        predicted: (N,) integers.
        labels: (N,) integers.
        groups: classes by name of the group.

    Returns:
        Per cent, by name of the group; NaN for a group without classes.

    Raises:
        ShapeError: predictions and labels differ in shape.
        LabelError: a class of a group has no test samples, so that its accuracy is not defined.
    """
    if predicted.shape != labels.shape or labels.ndim != 1:
        raise ShapeError(
            f"predictions and labels must be (N,), found {tuple(predicted.shape)} and "
            f"{tuple(labels.shape)}"
        )
    right = predicted == labels

    def of_class(label: int) -> float:
        members = labels == label
        if not members.any():
            raise LabelError(f"class {label} has no test samples; leave it out of the groups")
        return 100 * right[members].double().mean().item()

    return {
        name: math.fsum(map(of_class, classes)) / len(classes) if classes else math.nan
        for name, classes in groups.items()
    }
