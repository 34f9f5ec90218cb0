"""Pull every feature to its own class vector, and away from nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import CheckedLoss
from ddn_etf.losses.cosines import unit_rows
from ddn_etf.losses.learned import warn_if_learned
from ddn_etf.validation import check_real

__all__ = ["DotRegression"]


@dataclass(frozen=True, eq=False)
class DotRegression(CheckedLoss):
    """(1/2N) Σ_i (m_{y_i}ᵀ h_i - 1)² for unit features h and unit class vectors m.

    Cross entropy also pushes a feature away from the other classes; with a fixed frame these are
    where they should be, and the pull alone has the same optimum (Yang et al., "Inducing Neural
    Collapse in Imbalanced Learning: Do We Really Need a Learnable Classifier at the End of Deep
    Neural Network?", 2022, with E_W = E_H = 1). Only for a classifier that is not learned:
    a learned one can move all class vectors to one point, where the loss is zero and no class can be
    told from another, and :class:`~ddn_etf.losses.LearnedClassifierWarning` says so.

    Args:
        target: None to divide h and the rows of W by their norms, so that m_yᵀh is their cosine and
            the bias plays no part; or t > 0 to take the logits as they are, bias and lengths
            included: (1/2N) Σ_i (z_{i,y_i} - t)². A head with unit weights and features of length τ
            has t = τ (the source's √(E_W E_H), whose loss is divided by it once more).
        validate: see :class:`~ddn_etf.losses.CheckedLoss`.

    Raises:
        TypeError: a target that is not a number.
        ValueError: a target that is not a positive number.
    """

    target: float | None = None

    def __post_init__(self) -> None:
        if self.target is None:
            return
        check_real("target", self.target)
        if not 0 < self.target < math.inf:
            raise ValueError(
                f"target must be a positive number, found {self.target}; None compares directions"
            )

    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula above."""
        warn_if_learned(
            output,
            "DotRegression is zero where all class vectors are one, and a learned classifier can go "
            "there",
        )
        if self.target is None:
            # Only the vectors that are asked for: (N, d) and not (N, K).
            own = (unit_rows(output.h) * unit_rows(output.weight)[labels]).sum(dim=1)
        else:
            own = output.logits.gather(1, labels.unsqueeze(1)).squeeze(1)
        return (own - (self.target or 1.0)).square().mean() / 2
