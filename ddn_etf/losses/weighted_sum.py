"""Several losses as one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import Loss

__all__ = ["WeightedSum"]


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """Σ_j a_j loss_j(output, labels).

    >>> from ddn_etf.losses import CenterCollapse, CrossEntropy
    >>> loss = WeightedSum((CrossEntropy(), CenterCollapse()), (1.0, 0.4))

    Args:
        losses: at least one.
        weights: a, as many finite numbers.

    Raises:
        ValueError: no loss, not as many weights as losses, or a weight that is not finite.
    """

    losses: tuple[Loss, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"{len(self.losses)} losses and {len(self.weights)} weights; give at least one "
                "loss, and one weight for each"
            )
        for j, weight in enumerate(self.weights):
            if not math.isfinite(weight):
                raise ValueError(f"weights[{j}] is {weight}; weights must be finite numbers")

    def __call__(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The sum for one batch; see :class:`~ddn_etf.losses.Loss`."""
        terms = [
            weight * loss(output, labels)
            for weight, loss in zip(self.weights, self.losses, strict=True)
        ]
        return torch.stack(terms).sum()
