"""Means and deviations of one split, from which the metrics are computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import FeatureError, LabelError
from ddn_etf.validation import (
    check_features,
    check_floating,
    check_labels,
    check_num_classes,
    check_values,
)

__all__ = ["SplitStatistics", "as_matrix", "of_unit_size", "sizes_of"]


@dataclass(frozen=True, eq=False)
class SplitStatistics:
    """One split in float64, and its means.

    Deviations are taken about a nearby origin before they are averaged, so that a large common
    offset of the features costs no digits.

    Attributes:
        features: h_i, (N, d).
        labels: y_i, (N,).
        counts: samples per class, (K,).
        global_mean: μ_G, the mean of all samples, (d,).
        centered: h_i - μ_G, (N, d).
        deviations: H̃ = [μ_k - μ_G], (d, K); columns are classes.
    """

    features: Tensor
    labels: Tensor
    counts: Tensor
    global_mean: Tensor
    centered: Tensor
    deviations: Tensor

    @classmethod
    @torch.no_grad()
    def from_features(cls, features: Tensor, labels: Tensor, num_classes: int) -> SplitStatistics:
        """Take the statistics of a split.

        Args:
            features: (N, d), floating point, finite.
            labels: (N,) integers in 0..K-1, each class at least once.
            num_classes: K >= 2.

        Raises:
            ShapeError, DtypeError: wrong shapes or dtypes.
            FeatureError: NaN or infinity, or no samples.
            LabelError: a label out of range, or a class without samples: it has no mean.
        """
        check_num_classes(num_classes)
        check_features(features)
        labels = check_labels(labels, features)
        check_values(features, labels, num_classes)
        counts = torch.bincount(labels, minlength=num_classes)
        absent = torch.nonzero(counts == 0).flatten().tolist()
        if absent:
            listed = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
            raise LabelError(
                f"{len(absent)} of {num_classes} classes have no samples in this split ({listed}), "
                "so their means are not defined; measure on a larger split, or number the classes "
                "that are there from 0 and keep only their rows of the weight"
            )
        features = features.detach().double()
        origin = features.mean(dim=0)
        shifted = features - origin
        correction = shifted.mean(dim=0)
        centered = shifted - correction
        sums = centered.new_zeros(num_classes, features.shape[1])
        sums.index_add_(0, labels, centered)
        return cls(
            features=features,
            labels=labels,
            counts=counts,
            global_mean=origin + correction,
            centered=centered,
            deviations=(sums / counts.unsqueeze(1)).mT,
        )

    @property
    def num_classes(self) -> int:
        """K."""
        return self.counts.shape[0]

    @property
    def class_means(self) -> Tensor:
        """μ_k, (d, K); columns are classes."""
        return self.deviations + self.global_mean.unsqueeze(1)

    @property
    def within(self) -> Tensor:
        """h_i - μ_{y_i}, (N, d)."""
        return self.centered - self.deviations.mT[self.labels]


def as_matrix(name: str, matrix: Tensor, shape: tuple[int | None, int | None]) -> Tensor:
    """The matrix in float64, cut off from its graph, if it is finite.

    Raises:
        DtypeError: not a floating-point tensor, or one on the meta device, which has no values.
        ShapeError: not a matrix of this shape, where None stands for any size.
        FeatureError: NaN or infinity; names the first such row.
    """
    check_floating(name, matrix)
    if matrix.ndim != 2 or any(
        wanted is not None and size != wanted
        for size, wanted in zip(matrix.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ShapeError(f"{name} must have shape ({wanted}), found {tuple(matrix.shape)}")
    if matrix.is_meta:
        raise DtypeError(f"{name} lies on the meta device, where tensors have no values to measure")
    matrix = matrix.detach().double()
    finite = torch.isfinite(matrix).all(dim=1).tolist()
    if not all(finite):
        raise FeatureError(f"{name} holds NaN or infinity, first in row {finite.index(False)}")
    return matrix


def of_unit_size(matrix: Tensor) -> Tensor:
    """Divided by its largest entry, so that no square over- or underflows; zero stays zero.

    Args:
        matrix: finite, of any shape.
    """
    if matrix.numel() == 0:
        return matrix
    largest = matrix.abs().amax()
    return matrix / torch.where(largest == 0, 1.0, largest)


def sizes_of(statistics: SplitStatistics) -> tuple[int, int]:
    """d and K of a split.

    Raises:
        TypeError: features, say, in place of their statistics.
    """
    if not isinstance(statistics, SplitStatistics):
        raise TypeError(
            f"statistics of a split are needed, found {type(statistics).__name__}; take them with "
            "SplitStatistics.from_features(features, labels, num_classes)"
        )
    d, K = statistics.deviations.shape
    return d, K
