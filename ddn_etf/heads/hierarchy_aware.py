"""Classifiers whose angles follow a hierarchy: fixed, or nearest to the class means.

Which bias belongs to these heads? Shifting all vectors of a classifier by one vector a adds the
same number aᵀh to all logits of a sample, so softmax and cross entropy see of W only the
differences between its rows. For a simplex ETF nothing is lost by that: its rows add up to zero.
The rows of a hierarchy-aware frame do so only if all classes have the same place in the tree; in
general Σ_k x_k w_k = 0 with x = E⁻¹1 (:mod:`ddn_etf.hierarchy.frame`), and their mean w̄ is not zero.
For features at collapse, h = τ w_y and μ_G = τ Σ_j p_j w_j with the shares p of the classes:

* Without a bias, as in [HAF], the logits are τ S_{cy}: every class is right, and all classes are
  ranked by their distance in the tree.
* With b = -W μ_G every class is right, too. The logit of y is ahead of that of c by

      τ (w_y - w_c)ᵀ(w_y - Σ_j p_j w_j) = τ [1 - S_{cy} - Σ_j p_j (S_{yj} - S_{cj})] .

  The distances are an ultrametric, so S_{yj} = S_{cj} unless j is below the lowest common ancestor
  of y and c; there S_{yj} - S_{cj} <= 1 - S_{cy} for j on the side of y, and <= 0 otherwise. As p adds
  up to 1 and c itself is not on the side of y, the difference is positive. But the *ranking* of the
  other classes is no longer that of the tree: classes with many relatives, for which w_cᵀ w̄ is
  large, are pushed back.

So b = 0 is right where features are to point along the vectors of their classes, which is what the
cosine loss of [HAF] wants. Where cross entropy alone decides where the features go, they adapt to
either; with b = -W μ_G, as in the nearest ETF head, they need not first lose a mean they have in
common, and this is the choice of :class:`NearestHAFrameHead` unless told otherwise.

V* depends on neither: the class means Y are centred, Y F = Y (F - 1f̄ᵀ), and from features at collapse
the head finds the V they were made with.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ddn_etf.heads.fixed_frame import FixedFrameHead
from ddn_etf.heads.nearest import NearestHeadOptions
from ddn_etf.heads.nearest_frame import NearestFrameHead
from ddn_etf.hierarchy.frame import Distances, class_cosines, hierarchy_aware_frame
from ddn_etf.schedules import Schedule
from ddn_etf.validation import check_count

__all__ = ["HAFrameHead", "NearestHAFrameHead"]


class HAFrameHead(FixedFrameHead):
    """W = the hierarchy-aware frame of a tree, b = 0; only the backbone is trained.

        W Wᵀ = S = (1-s*) E + s* 11ᵀ,   E = exp(-γ D/D_max),

    see :func:`ddn_etf.hierarchy.hierarchy_aware_frame`. Classes that are near each other in the tree
    have vectors at a smaller angle, so that a mistake falls more often on a near relative. Meant
    for the loss :class:`ddn_etf.losses.HierarchyAware`.

    Liang and Davis, "Inducing Neural Collapse to a Fixed Hierarchy-Aware Frame for Reducing Mistake
    Severity" (2023). There d = K behind a :class:`ddn_etf.hierarchy.FeatureTransform`, and features
    are not normalised: ``temperature=None``.

    Args:
        distances: D, (K, K), for example ``hierarchy.distances``.
        dim: d >= rank of S, which is K - 1, or K where s* = -1.
        gamma: γ > 0.
        generator: source of a random rotation of the frame; without one it is triangular.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are; or a schedule of τ.

    Attributes:
        cosines: S, (K, K).

    Raises:
        HierarchyError: D is no such matrix, or exp(-γ D/D_max) is not positive definite.
        FrameSizeError: d is too small.
        TypeError: ``dim`` is not an integer.
        ValueError: γ or the temperature is not a positive number.
    """

    cosines: Tensor

    def __init__(
        self,
        distances: Distances,
        dim: int,
        gamma: float = 2.0,
        *,
        generator: torch.Generator | None = None,
        temperature: float | Schedule | None = 5.0,
    ) -> None:
        frame = hierarchy_aware_frame(distances, dim, gamma, generator=generator)
        super().__init__(frame, temperature=temperature)
        self.gamma = gamma
        self.register_buffer("cosines", class_cosines(distances, gamma).to(frame))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, gamma={self.gamma}"


class NearestHAFrameHead(NearestFrameHead):
    """The rotated copy of the hierarchy-aware frame that is nearest to the running class means.

        V* = argmin_V  ‖Y - V Fᵀ/‖F‖_F‖_F² + (δ/2) ‖V - V_prox‖_F²   subject to  Vᵀ V = I,
        W = F V*ᵀ,   W Wᵀ = F Fᵀ = S,   b = -W μ_G or 0,   logits = h Wᵀ + b,

    with F (K, r) the triangular factor of S, see :class:`HAFrameHead` for S and
    :class:`NearestFrameHead` for the rest. The angles are those of the tree in every step; where in
    the space of features the frame lies, the features decide.

    The combination of Liang and Davis (2023) with Markou, Ajanthan and Gould (2024) is this
    library's.

    Args:
        distances: D, (K, K), for example ``hierarchy.distances``.
        dim: d >= rank of S, which is K - 1, or K where s* = -1.
        gamma: γ > 0.
        centered: b = -W μ_G, for cross entropy. With False b = 0, for losses that compare
            directions, such as :class:`ddn_etf.losses.HierarchyAware`: the rows of W need not add
            up to zero, and :mod:`the module <ddn_etf.heads.hierarchy_aware>` says what follows.
        **options: of :class:`NearestETFHead`: ``temperature``, ``proximal_weight``, ``average``,
            ``gradient_through_frame``, ``class_balanced``, ``synchronize``, ``validate``.

    Attributes:
        cosines: S, (K, K).

    Raises:
        HierarchyError: D is no such matrix, or exp(-γ D/D_max) is not positive definite.
        FrameSizeError: d is too small.
        TypeError: ``dim`` is not an integer.
        ValueError: γ, the temperature or the proximal weight is not a positive number.
    """

    cosines: Tensor

    def __init__(
        self,
        distances: Distances,
        dim: int,
        gamma: float = 2.0,
        *,
        centered: bool = True,
        **options: Unpack[NearestHeadOptions],
    ) -> None:
        check_count("dim", dim, 1)
        S = class_cosines(distances, gamma)
        # In as many dimensions as there are classes it always exists; the head reduces it.
        frame = hierarchy_aware_frame(distances, len(S), gamma, dtype=torch.float64, device="cpu")
        super().__init__(frame, dim, **options)
        self.gamma, self.centered = gamma, centered
        self.register_buffer("cosines", S.to(self.weight))

    def classifier(self, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """W and b as in :class:`NearestFrameHead`, with b = 0 unless ``centered``."""
        weight, bias = super().classifier(h, labels)
        if self.centered:
            return weight, bias
        self.bias = torch.zeros_like(self.bias)
        return weight, torch.zeros_like(bias)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, gamma={self.gamma}, centered={self.centered}"
