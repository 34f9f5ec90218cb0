"""Cross entropy and, beside it, the angles to *all* class vectors of the frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from ddn.errors import ShapeError
from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import CheckedLoss, check_constant
from ddn_etf.losses.cosines import cosines
from ddn_etf.losses.learned import warn_if_learned
from ddn_etf.validation import check_real

__all__ = ["HierarchyAware"]


@dataclass(frozen=True, eq=False)
class HierarchyAware(CheckedLoss):
    """β CE(z, y) + (α/N) Σ_i Σ_c (cos(w_c, h_i) - S_{c,y_i})²,  β = 1-α if α <= 1, else 1.

    S_{c,y} is the cosine between the vectors of the classes c and y in the hierarchy-aware frame.
    The second term is zero where every feature makes with *every* class vector the angle that the
    vector of its own class makes; it tells a feature on which side of its class its relatives are.

    Liang and Davis, "Inducing Neural Collapse to a Fixed Hierarchy-Aware Frame for Reducing Mistake
    Severity" (2023). It serves any fixed frame.

    Args:
        alpha: α >= 0. 0 is cross entropy alone, 1 the cosines alone; the default is that of the
            source for CIFAR-100.
        cosines: S, (K, K), or None for the cosines between the rows of the classifier itself, which
            are S for a hierarchy-aware frame and all its rotations. They are constants: no gradient
            passes through S. With a classifier that is learned, None asks for the angles that it
            happens to have, whatever the hierarchy says, and not what the source defines:
            :class:`~ddn_etf.losses.LearnedClassifierWarning` says so. Give S itself there,
            ``class_cosines(hierarchy.distances)``.
        validate: see :class:`~ddn_etf.losses.CheckedLoss`.

    Raises:
        TypeError: α is not a number.
        ValueError: α negative or not finite.
        DtypeError, FeatureError: S is not a floating-point tensor, or not finite.
        ShapeError: S not square or, when called, not (K, K).
    """

    alpha: float = 0.4
    cosines: Tensor | None = None

    def __post_init__(self) -> None:
        check_real("alpha", self.alpha)
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a number of at least 0, found {self.alpha}")
        S = self.cosines
        if S is None:
            return
        check_constant("cosines", S, "(K, K)", ndim=2)
        if S.shape[0] != S.shape[1]:
            raise ShapeError(f"cosines must have shape (K, K), found {tuple(S.shape)}")

    @property
    def beta(self) -> float:
        """β, the weight of the cross entropy."""
        return 1 - self.alpha if self.alpha <= 1 else 1.0

    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula above."""
        weight, num_classes = output.weight, output.logits.shape[1]
        if self.cosines is None:
            if self.alpha > 0:
                warn_if_learned(
                    output,
                    "HierarchyAware without cosines takes those of the classifier, and a learned one "
                    "knows of no hierarchy",
                    " or give the cosines: HierarchyAware(alpha, class_cosines(distances))",
                )
            S = cosines(weight.detach(), weight.detach())
        elif len(self.cosines) != num_classes:
            raise ShapeError(
                f"cosines are for {len(self.cosines)} classes and the head has {num_classes}"
            )
        else:
            S = self.cosines.detach().to(weight)
        deviation = cosines(output.h, weight) - S[labels]
        angles = deviation.square().sum(dim=1).mean()
        return self.beta * cross_entropy(output.logits, labels) + self.alpha * angles
