"""Cross entropy that looks away from what is already right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import CheckedLoss
from ddn_etf.validation import check_num_classes, check_real

__all__ = ["Focal"]


@dataclass(frozen=True, eq=False)
class Focal(CheckedLoss):
    """-(1/N) Σ_i (1 - p_i)^γ log p_i,  p_i = softmax(z_i)_{y_i}.

    γ = 0 is cross entropy. Lin, Goyal, Girshick, He and Dollár (2017), eq. 4, for K classes.

    Args:
        gamma: γ >= 0.
        validate: see :class:`~ddn_etf.losses.CheckedLoss`.

    Raises:
        TypeError: γ is not a number.
        ValueError: γ negative or not finite.
        FrameSizeError: when called, K < 2: one class alone has p = 1 always.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_real("gamma", self.gamma)
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a number of at least 0, found {self.gamma}")

    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula above."""
        logits, own = output.logits, labels.unsqueeze(1)
        check_num_classes(logits.shape[1])
        log_p = logits.log_softmax(dim=1)
        # log(1 - p) from the other classes: where p rounds to 1 it is still finite, and so is the
        # slope of (1 - p)^γ for γ < 1.
        log_rest = log_p.scatter(1, own, -torch.inf).logsumexp(dim=1)
        return -((self.gamma * log_rest).exp() * log_p.gather(1, own).squeeze(1)).mean()
