"""Long-tailed data: accuracy by how often a class was seen in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import LabelError
from ddn_etf.validation import check_count, check_counts, check_integer, class_labels

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
        TypeError: counts or limits that are no numbers.
        LabelError: a count that is not a whole number; names the class.
        ValueError: ``few`` is above ``many`` + 1, so that a class could have both.
    """
    check_count("many", many, 0)
    check_count("few", few, 0)
    if few > many + 1:
        raise ValueError(f"few = {few} and many = {many} overlap; few may be at most many + 1")
    groups: dict[str, list[int]] = {"many": [], "medium": [], "few": []}
    for label, count in enumerate(check_counts("counts", counts, 0)):
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
        TypeError: the groups are no mapping of names to classes.
        DtypeError: predictions or labels are not integers, or not on one device.
        ShapeError: predictions and labels differ in shape.
        LabelError: a class of a group has no test samples, so that its accuracy is not defined.
    """
    predicted, labels = class_labels("predicted", predicted), class_labels("labels", labels)
    if predicted.device != labels.device:
        raise DtypeError(
            f"predictions lie on {predicted.device} and labels on {labels.device}; move one with "
            ".to(device)"
        )
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups must be a mapping of names to classes, found {groups!r}")
    for name, classes in groups.items():
        for label in classes:
            check_integer(f"a class of the group {name!r}", label)
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
