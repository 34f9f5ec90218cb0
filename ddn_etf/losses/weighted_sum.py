"""Several losses as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import Loss, check_loss
from ddn_etf.validation import check_real

__all__ = ["WeightedSum"]


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """Σ_j a_j loss_j(output, labels).

    >>> from ddn_etf.losses import CenterCollapse, CrossEntropy
    >>> loss = WeightedSum((CrossEntropy(), CenterCollapse()), (1.0, 0.4))

    Args:
        losses: at least one; instances, not classes.
        weights: a, as many finite numbers.

    Raises:
        TypeError: no sequences, a class in place of a loss, or a weight that is not a number; when
            called, a loss that does not return a tensor.
        ShapeError: when called, a loss that returns more than one number.
        ValueError: no loss, not as many weights as losses, or a weight that is not finite.
    """

    losses: Sequence[Loss]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("losses", "weights"):
            given = getattr(self, name)
            if not isinstance(given, Sequence) or isinstance(given, str):
                raise TypeError(f"{name} must be a sequence, found {given!r}; one alone is (x,)")
            object.__setattr__(self, name, tuple(given))
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"{len(self.losses)} losses and {len(self.weights)} weights; give at least one "
                "loss, and one weight for each"
            )
        for j, (loss, weight) in enumerate(zip(self.losses, self.weights, strict=True)):
            check_loss(f"losses[{j}]", loss)
            check_real(f"weights[{j}]", weight)
            if not math.isfinite(weight):
                raise ValueError(f"weights[{j}] is {weight}; weights must be finite numbers")

    def __call__(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The sum for one batch; see :class:`~ddn_etf.losses.Loss`."""
        terms = []
        for weight, loss in zip(self.weights, self.losses, strict=True):
            value = loss(output, labels)
            if not isinstance(value, Tensor):
                raise TypeError(f"{loss!r} returned {value!r}; a loss returns a tensor ()")
            if value.ndim:
                raise ShapeError(
                    f"{loss!r} returned a tensor {tuple(value.shape)}; a loss returns one number "
                    "(), the mean over the samples, say"
                )
            terms.append(weight * value)
        return torch.stack(terms).sum()
