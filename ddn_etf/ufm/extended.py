"""The global minimum of the extended model, with two layers after the free features.

    f(W₂, W₁, H) = (1/2N) ‖W₂ W₁ H - Y‖² + λ₂/2 ‖W₂‖² + λ₁/2 ‖W₁‖² + λ_H/2 ‖H‖²,   Y = I ⊗ 1_nᵀ, N = Kn.

Derivation (the structure is theorem 4.1 of Tirer and Bruna, "Extended Unconstrained Features Model
for Exploring Deep Neural Collapse", 2022; the root below is elementary). For Z = W₂ W₁ H with
singular values σ_i and both widths at least K, the least weight decay is
(3/2) L Σ_i σ_i^{2/3}, L = (λ₂λ₁λ_H)^{1/3}: each singular value is a product of three factors of equal
cost. By von Neumann's inequality Z shares the singular vectors of Y, whose K singular values are √n,
and with σ = √n t the problem falls apart into K equal ones,

    K f_i = ½ (t-1)² + (3/2) κ t^{2/3},     κ = K L n^{1/3},   t >= 0,

which is not convex: t = 0 is always a local minimum. At any other stationary point u = t^{1/3} solves

    u⁴ - u + κ = 0,

and the larger of its two roots, in [4^{-1/3}, 1], is the local minimum. There κ = u - u⁴, so that the
cost is ½ + t/2 - t², which is at most the ½ of t = 0 just where t >= ½, that is κ <= 2^{-4/3}. On that
interval u⁴ - u + κ is convex and increasing, and Newton's method from u = 1 falls to the root.
"""

# ruff: noqa: N815 - W and H are the papers' letters

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ddn_etf.errors import FrameSizeError
from ddn_etf.ufm.factors import check_decay, check_model_size, orthonormal
from ddn_etf.validation import check_count

__all__ = ["ExtendedMinimizer", "ExtendedMinimum", "extended_minimum"]

_THRESHOLD = 2 ** (-4 / 3)


class ExtendedMinimizer(NamedTuple):
    """A global minimiser of the linear model with two layers.

    Attributes:
        W2: (K, d2).
        W1: (d2, d1).
        H: (N, d1), n rows per class, classes in order.
    """

    W2: Tensor
    W1: Tensor
    H: Tensor


@dataclass(frozen=True)
class ExtendedMinimum:
    """The minimum over W₂, W₁, H; ``float()`` of it is its value f*.

    Attributes:
        num_classes: K.
        samples_per_class: n.
        weight_decay_W2: λ₂.
        weight_decay_W1: λ₁.
        weight_decay_H: λ_H.
        value: f*; ½ at a trivial minimum.
        sigma: σ*, the K singular values of W₂ W₁ H; 0 at a trivial minimum.
        rho: λ₂‖W₂‖² = λ₁‖W₁‖² = λ_H‖H‖² = K (λ₂λ₁λ_H)^{1/3} σ^{2/3}.
        is_trivial: whether zero is the minimum.
    """

    num_classes: int
    samples_per_class: int
    weight_decay_W2: float
    weight_decay_W1: float
    weight_decay_H: float
    value: float
    sigma: float
    rho: float
    is_trivial: bool

    def __float__(self) -> float:
        return self.value

    def minimizer(
        self, dim: int, width: int | None = None, *, generator: torch.Generator | None = None
    ) -> ExtendedMinimizer:
        """Orthogonal frames at H and W₁H, with W₂ ∥ (W₁H)ᵀ and W₂W₁ ∥ Hᵀ.

        Args:
            dim: d1 >= K, number of free features.
            width: d2 >= K, number of features after the first layer; d1 if not given.
            generator: source of random rotations of both. Without one W₁H is not negative, so that
                the model with ReLU has the same value there, and the same gradient of zero on one
                side. That no point of that model is lower has been observed, not proved.

        Returns:
            W2 (K, d2), W1 (d2, d1) and H (N, d1) in float64.

        Raises:
            TypeError: a size is not an integer.
            FrameSizeError: a size below K.
        """
        K, n = self.num_classes, self.samples_per_class
        width = dim if width is None else width
        for name, size in (("dim", dim), ("width", width)):
            check_count(name, size, 1)
            if size < K:
                raise FrameSizeError(
                    f"{name} is {size}: an orthogonal frame of {K} classes needs {name} >= {K}"
                )
        # Each singular value σ is a product a b c with λ₂ a² = λ₁ b² = λ_H c².
        share = self.rho / K
        decays = (self.weight_decay_W2, self.weight_decay_W1, self.weight_decay_H)
        a, b, c = (math.sqrt(share / decay) for decay in decays)
        P1, P2 = orthonormal(dim, K, generator), orthonormal(width, K, generator)
        H = (c / math.sqrt(n) * P1.mT).repeat_interleave(n, dim=0)
        return ExtendedMinimizer(a * P2.mT, b * P2 @ P1.mT, H)


def extended_minimum(
    K: int, n: int, weight_decay_W2: float, weight_decay_W1: float, weight_decay_H: float
) -> ExtendedMinimum:
    """f* = min over W₂, W₁, H of (1/2Kn) ‖W₂W₁H - Y‖² + λ₂/2 ‖W₂‖² + λ₁/2 ‖W₁‖² + λ_H/2 ‖H‖².

    f* = ½ + t/2 - t² with t = u³, u the larger root of u⁴ - u + κ = 0 and κ = K (nλ₂λ₁λ_H)^{1/3};
    ½ where κ > 2^{-4/3}. It holds for widths d1, d2 >= K, exactly to rounding.

    Args:
        K: number of classes, >= 2.
        n: samples per class, >= 1.
        weight_decay_W2: λ₂ > 0, of the last layer.
        weight_decay_W1: λ₁ > 0, of the layer before.
        weight_decay_H: λ_H > 0, of the features.

    Raises:
        TypeError: K or n is not an integer, or a weight decay no number.
        FrameSizeError: K < 2.
        ValueError: n < 1, or a weight decay that is not a positive number.

    Source: Tirer and Bruna (2022), theorem 4.1.
    """
    check_model_size(K, n)
    decays = (weight_decay_W2, weight_decay_W1, weight_decay_H)
    check_decay(
        weight_decay_W2=weight_decay_W2,
        weight_decay_W1=weight_decay_W1,
        weight_decay_H=weight_decay_H,
    )
    L = math.prod(math.cbrt(decay) for decay in decays)
    kappa = K * L * math.cbrt(n)
    if kappa > _THRESHOLD:
        return ExtendedMinimum(K, n, *decays, value=0.5, sigma=0.0, rho=0.0, is_trivial=True)
    u = _larger_root(kappa)
    t = u**3
    return ExtendedMinimum(
        K,
        n,
        *decays,
        # Not ½ + t/2 - t², which cancels as t tends to 1; 1 - t = κ/u by the equation of the root.
        value=0.5 * (kappa / u) ** 2 + 1.5 * kappa * u**2,
        sigma=math.sqrt(n) * t,
        rho=kappa * u**2,
        is_trivial=False,
    )


def _larger_root(kappa: float) -> float:
    """The root of u⁴ - u + κ in [2^{-1/3}, 1], for 0 < κ <= 2^{-4/3}."""
    u = 1.0
    while True:
        step = (u**4 - u + kappa) / (4 * u**3 - 1)
        # The iterates fall; where rounding stops that, they are at the root.
        if u - step >= u:
            return u
        u -= step
