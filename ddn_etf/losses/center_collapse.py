"""Cross entropy on the class centres instead of the samples: every class counts the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ddn.errors import ShapeError
from ddn_etf.frames import simplex_etf
from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import CheckedLoss, check_constant
from ddn_etf.validation import check_real

__all__ = ["CenterCollapse"]


@dataclass(frozen=True, eq=False)
class CenterCollapse(CheckedLoss):
    """-(1/b) Σ_{k in B} log softmax(s F h̄_k)_k, with h̄_k the mean feature of class k.

    B holds the b classes in the batch, and the rows of F are a fixed simplex ETF, whatever the
    classifier is. A regulariser, to be added to a loss of the samples
    (:class:`~ddn_etf.losses.WeightedSum`): centres count once however many samples they have, which
    keeps the rare classes of imbalanced data apart.

    Zhong et al., "Understanding Imbalanced Semantic Segmentation Through Neural Collapse" (2023);
    there the sum over classes is not divided by their number.

    Args:
        frame: F, (K, d), or None for the canonical simplex ETF.
        scale: s > 0 multiplies the products of centres and frame.
        validate: see :class:`~ddn_etf.losses.CheckedLoss`.

    Raises:
        TypeError: a scale that is not a number.
        ValueError: a scale that is not a positive number.
        DtypeError, FeatureError: F is not a floating-point tensor, or not finite.
        ShapeError: F not a matrix or, when called, not (K, d).
        FrameSizeError: when called without F, K < 2 or d < K - 1: no simplex ETF exists.
    """

    frame: Tensor | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_real("scale", self.scale)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number, found {self.scale}")
        if self.frame is not None:
            check_constant("frame", self.frame, "(K, d)", ndim=2)

    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula above."""
        h, (num_classes, dim) = output.h, output.weight.shape
        present, index, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        sums = h.new_zeros(len(present), dim).index_add(0, index, h)
        logits = self.scale * (sums / counts.unsqueeze(1)) @ self._frame(num_classes, dim, h).mT
        return cross_entropy(logits, present)

    def _frame(self, num_classes: int, dim: int, like: Tensor) -> Tensor:
        if self.frame is None:
            return simplex_etf(num_classes, dim, dtype=like.dtype, device=like.device)
        if self.frame.shape != (num_classes, dim):
            raise ShapeError(
                f"frame has shape {tuple(self.frame.shape)} and the classifier ({num_classes}, "
                f"{dim}); give one row per class, as long as the features"
            )
        return self.frame.detach().to(like)
