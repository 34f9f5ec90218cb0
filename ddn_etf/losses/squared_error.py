"""Squared distance of the logits from one-hot targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import one_hot

from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import CheckedLoss
from ddn_etf.validation import check_real

__all__ = ["MeanSquaredError"]


@dataclass(frozen=True, eq=False)
class MeanSquaredError(CheckedLoss):
    """(1/2N) Σ_i ‖z_i - s e_{y_i}‖², with z the logits and e_y the one-hot vector of the label.

    The squares are summed over the K classes and averaged over the N samples, as in the
    unconstrained features model of Tirer and Bruna (2022), where s = 1.

    Args:
        scale: s > 0, the wanted logit of the true class. Hui and Belkin (2021) use larger targets
            for many classes. A head with unit weights and features of length τ has logits in
            [-τ, τ]; targets beyond that cannot be reached.
        validate: see :class:`~ddn_etf.losses.CheckedLoss`.

    Raises:
        TypeError: a scale that is not a number.
        ValueError: a scale that is not a positive number.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_real("scale", self.scale)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number, found {self.scale}")

    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula above."""
        logits = output.logits
        targets = self.scale * one_hot(labels, logits.shape[1]).to(logits)
        return (logits - targets).square().sum(dim=1).mean() / 2
