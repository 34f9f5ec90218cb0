"""Cross entropy against labels that are not quite certain."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import CheckedLoss
from ddn_etf.validation import check_real

__all__ = ["LabelSmoothing"]


@dataclass(frozen=True, eq=False)
class LabelSmoothing(CheckedLoss):
    """-(1/N) Σ_i Σ_c q_{ic} log softmax(z_i)_c,  q_i = (1-ε) e_{y_i} + ε 1/K.

    The global optimum on balanced data is a simplex ETF, as for cross entropy (Zhou et al., "Are
    All Losses Created Equal: A Neural Collapse Perspective", 2022). Szegedy et al. (2016), sec. 7.

    Args:
        smoothing: ε in [0, 1), the probability shared equally by all K classes, the true one
            included.
        validate: see :class:`~ddn_etf.losses.CheckedLoss`.

    Raises:
        TypeError: ε is not a number.
        ValueError: ε outside [0, 1).
    """

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_real("smoothing", self.smoothing)
        if not 0 <= self.smoothing < 1:
            raise ValueError(
                f"smoothing must lie in [0, 1), found {self.smoothing}: at 1 the labels would not "
                "matter"
            )

    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula above."""
        return cross_entropy(output.logits, labels, label_smoothing=self.smoothing)
