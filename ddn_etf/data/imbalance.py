"""Imbalanced train splits: fewer samples of some classes, the test split as it is.

A profile says which share φ_k of the largest class each class keeps; the imbalance factor is the
size of the largest class over that of the smallest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ddn_etf.data.dataset import Dataset
from ddn_etf.errors import LabelError

__all__ = [
    "ExponentialProfile",
    "ImbalanceProfile",
    "StepProfile",
    "imbalanced",
    "imbalanced_counts",
]


class ImbalanceProfile(Protocol):
    """The share of the largest class that each class keeps."""

    def shares(self, num_classes: int) -> list[float]:
        """φ_k in (0, 1] for k = 0, ..., K-1; the largest is 1."""
        ...


@dataclass(frozen=True)
class ExponentialProfile:
    """The long tail φ_k = ρ^(-k/(K-1)): class 0 is the largest.

    Cui, Jia, Lin, Song and Belongie, "Class-Balanced Loss Based on Effective Number of Samples"
    (2019), section 5.1.

    Args:
        factor: the imbalance factor ρ >= 1.

    Raises:
        ValueError: ρ is below 1 or not finite.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def shares(self, num_classes: int) -> list[float]:
        """ρ^(-k/(K-1))."""
        return [float(self.factor ** (-k / max(1, num_classes - 1))) for k in range(num_classes)]


@dataclass(frozen=True)
class StepProfile:
    """The first classes keep all, the last ``minority`` of them 1/ρ.

    Buda, Maki and Mazurowski, "A systematic study of the class imbalance problem in convolutional
    neural networks" (2018).

    Args:
        factor: the imbalance factor ρ >= 1.
        minority: share of the classes that are small, rounded down to whole classes; in [0, 1).

    Raises:
        ValueError: a number is out of its range.
    """

    factor: float
    minority: float = 0.5

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        if not 0 <= self.minority < 1:
            raise ValueError(f"minority must lie in [0, 1), found {self.minority}")

    def shares(self, num_classes: int) -> list[float]:
        """1 for the first classes, 1/ρ for the others."""
        small = math.floor(self.minority * num_classes + _ROUNDING)
        return [1.0] * (num_classes - small) + [1 / self.factor] * small


def imbalanced_counts(available: Sequence[int], profile: ImbalanceProfile) -> list[int]:
    """Samples n_k = ⌊φ_k n_max⌋ of each class, with the largest n_max that the classes allow.

    With n_max samples in every class it is n_max; where classes are unequal, or there are fewer of
    the first than of the others, it is the largest number for which no class runs short.

    Args:
        available: samples of each class, (K,).
        profile: the shares.

    Raises:
        LabelError: a class would be left without samples; names it.
    """
    shares = profile.shares(len(available))
    # n_k <= available_k for ⌊φ_k n⌋: n may be anything below (available_k + 1)/φ_k.
    largest = min(
        math.ceil((have + 1) / share - _ROUNDING) - 1
        for have, share in zip(available, shares, strict=True)
    )
    counts = [math.floor(share * largest + _ROUNDING) for share in shares]
    for label, have in enumerate(available):
        if have < 1:
            raise LabelError(f"class {label} has no samples; every class needs at least 1")
    for label, count in enumerate(counts):
        if count < 1:
            raise LabelError(
                f"class {label} would keep none of its {available[label]} samples; use a smaller "
                "imbalance factor or more data"
            )
    return counts


def imbalanced(dataset: Dataset, profile: ImbalanceProfile, *, seed: int = 0) -> Dataset:
    """The same set with fewer train samples; which ones are kept is drawn with the seed.

    Args:
        dataset: the whole set.
        profile: such as ``ExponentialProfile(100)``.
        seed: of the choice. A larger factor with the same seed keeps a subset of each class.

    Raises:
        LabelError: a class would be left without samples.
    """
    counts = imbalanced_counts(dataset.train_counts, profile)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset.train_labels), generator=generator)
    shuffled = dataset.train_labels[order]
    kept = torch.cat([order[shuffled == k][:count] for k, count in enumerate(counts)])
    return dataset.select_train(kept.sort().values)


_ROUNDING = 1e-9
"""A share times a count that ought to be whole may come out this much below it."""


def _check_factor(factor: float) -> None:
    if not 1 <= factor < math.inf:
        raise ValueError(
            f"the imbalance factor is the largest class over the smallest, so at least 1; found "
            f"{factor}"
        )
