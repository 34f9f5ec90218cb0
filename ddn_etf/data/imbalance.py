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

from ddn_etf.data._draws import seeded_generator
from ddn_etf.data._naming import described, number
from ddn_etf.data.dataset import Dataset, check_dataset
from ddn_etf.errors import LabelError
from ddn_etf.validation import check_counts, check_real

__all__ = [
    "ExponentialProfile",
    "ImbalanceProfile",
    "StepProfile",
    "imbalanced",
    "imbalanced_counts",
]


class ImbalanceProfile(Protocol):
    """The share of the largest class that each class keeps.

    ``str`` of a profile goes into the name of the set: if a class defines it, it tells all of its
    parameters. Where it does not, a fingerprint of the counts is in the name.
    """

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
        TypeError: ρ is not a number.
        ValueError: ρ is below 1 or not finite.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self.factor)

    def __str__(self) -> str:
        return f"imbalance {number(self.factor)} (exponential)"

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
        TypeError: a number is none.
        ValueError: a number is out of its range.
    """

    factor: float
    minority: float = 0.5

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        check_real("minority", self.minority)
        if not 0 <= self.minority < 1:
            raise ValueError(f"minority must lie in [0, 1), found {self.minority}")

    def __str__(self) -> str:
        return f"imbalance {number(self.factor)} (step, minority {number(self.minority)})"

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
        TypeError: counts that are no numbers, or a class in place of a profile.
        LabelError: a count that is not a whole number, or a class that would be left without
            samples; names it.
        ValueError: shares of the profile that are not one number in (0, 1] per class.
    """
    _check_profile(profile)
    available = check_counts("available", available, 0)
    for label, have in enumerate(available):
        if have < 1:
            raise LabelError(f"class {label} has no samples; every class needs at least 1")
    shares = _checked_shares(profile, len(available))
    # n_k <= available_k for ⌊φ_k n⌋: n may be anything below (available_k + 1)/φ_k.
    largest = min(
        math.ceil((have + 1) / share - _ROUNDING) - 1
        for have, share in zip(available, shares, strict=True)
    )
    counts = [math.floor(share * largest + _ROUNDING) for share in shares]
    for label, count in enumerate(counts):
        if count < 1:
            raise LabelError(
                f"class {label} would keep none of its {available[label]} samples; use a smaller "
                "imbalance factor or more data"
            )
    return counts


def imbalanced(dataset: Dataset, profile: ImbalanceProfile, *, seed: int = 0) -> Dataset:
    """A set with fewer train samples; which ones are kept is drawn with the seed.

    Its name says how it was made: ``"digits, imbalance 100 (exponential), seed 0"``.

    Args:
        dataset: the whole set.
        profile: such as ``ExponentialProfile(100)``.
        seed: of the choice, >= 0. A larger factor with the same seed keeps a subset of each class.

    Raises:
        TypeError: not a data set, a profile or a whole number, in this order.
        LabelError: a class would be left without samples.
    """
    check_dataset(dataset)
    counts = imbalanced_counts(dataset.train_counts, profile)
    order = torch.randperm(
        len(dataset.train_labels), generator=seeded_generator(seed), device="cpu"
    )
    shuffled = dataset.train_labels.cpu()[order]
    kept = torch.cat([order[shuffled == k][:count] for k, count in enumerate(counts)])
    how = described(profile, torch.tensor(counts, device="cpu"))
    return dataset.select_train(
        kept.sort().values.to(dataset.train_labels.device),
        name=f"{dataset.name}, {how}, seed {seed}",
    )


_ROUNDING = 1e-9
"""A share times a count that ought to be whole may come out this much below it."""


def _check_profile(profile: object) -> None:
    if isinstance(profile, type) or not hasattr(profile, "shares"):
        raise TypeError(
            f"profile must be a profile of imbalance such as ExponentialProfile(100), found {profile!r}"
        )


def _checked_shares(profile: ImbalanceProfile, num_classes: int) -> list[float]:
    shares = list(profile.shares(num_classes))
    if len(shares) != num_classes:
        raise ValueError(f"{profile} has {len(shares)} shares for {num_classes} classes")
    for k, share in enumerate(shares):
        if not 0 < share <= 1:
            raise ValueError(
                f"{profile} keeps the share {share} of class {k}; it must lie in (0, 1]"
            )
    return [float(share) for share in shares]


def _check_factor(factor: float) -> None:
    check_real("the imbalance factor", factor)
    if not 1 <= factor < math.inf:
        raise ValueError(
            f"the imbalance factor is the largest class over the smallest, so at least 1; found "
            f"{factor}"
        )
