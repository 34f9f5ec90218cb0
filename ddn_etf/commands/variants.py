"""Data sets whose train split is changed: fewer samples of some classes, wrong labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ddn_etf.data import (
    AsymmetricNoise,
    Dataset,
    ExponentialProfile,
    ImbalanceProfile,
    LabelNoise,
    StepProfile,
    SymmetricNoise,
    imbalanced,
    noisy,
)

__all__ = ["IMBALANCES", "LABEL_NOISES", "DataVariant"]

IMBALANCES: dict[str, Callable[[float], ImbalanceProfile]] = {
    "exponential": ExponentialProfile,
    "step": StepProfile,
}
"""From the imbalance factor to the profile, by the names on the command line."""

LABEL_NOISES: dict[str, Callable[[float], LabelNoise]] = {
    "symmetric": SymmetricNoise,
    "asymmetric": AsymmetricNoise,
}
"""From the rate to the noise, by the names on the command line."""

_SEED = 0


@dataclass(frozen=True)
class DataVariant:
    """First the imbalance, then the label noise; drawn once, so that all runs have the same data.

    Attributes:
        imbalance: None to keep all samples.
        label_noise: None to keep all labels.
    """

    imbalance: ImbalanceProfile | None = None
    label_noise: LabelNoise | None = None

    def of(self, dataset: Dataset) -> Dataset:
        """The data set with a changed train split; the test split is as it was.

        Raises:
            LabelError: a class would be left without samples.
        """
        if self.imbalance is not None:
            dataset = imbalanced(dataset, self.imbalance, seed=_SEED)
        if self.label_noise is not None:
            dataset, _ = noisy(dataset, self.label_noise, seed=_SEED)
        return dataset

    def name(self, dataset: str) -> str:
        """What :meth:`of` calls the set, without reading it."""
        changes = (self.imbalance, self.label_noise)
        return ", ".join(
            (dataset, *(f"{each}, seed {_SEED}" for each in changes if each is not None))
        )
