"""The global minimum of cross entropy with weight decay, in closed form.

    f(W, H, b) = (1/N) Σ_i CE(W h_i + b, y_i) + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖²,   N = Kn.

Derivation (the result is that of Zhu et al., "A Geometric Analysis of Neural Collapse with
Unconstrained Features", 2021, theorem 3.1). With Z = W H, the least weight decay is
√(λ_W λ_H) ‖Z‖_* (:mod:`ddn_etf.ufm.factors`), so that for d >= K - 1

    min f = min_{Z, b} g(Z + b1ᵀ) + √(λ_W λ_H) ‖Z‖_* + λ_b/2 ‖b‖²,

a convex problem. Permuting classes, and samples within a class, does not change its value; so the
mean of a minimiser over all these permutations is one, too, and it has Z = (m M + a J) ⊗ 1_nᵀ and
b a multiple of 1. Neither a nor b changes the loss, and both cost: a = 0, b = 0. What is left is

    φ(m) = log(1 + (K-1) e^{-m}) + (K-1) q m,     q = √(n λ_W λ_H),   m >= 0,

since ‖m M ⊗ 1_nᵀ‖_* = √n (K-1) m. With p = (K-1) e^{-m} / (1 + (K-1) e^{-m}), the probability of all
the wrong classes together, φ' = (K-1) q - p, and p falls from (K-1)/K at m = 0. So m = 0 is the
minimum where Kq >= 1, and otherwise p = (K-1) q, which gives m; and φ = -log(1-p) + p m.
"""

# ruff: noqa: N815 - W and H are the papers' letters

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ddn_etf.ufm.factors import Minimizer, check_decay, check_model_size, collapsed_factors

__all__ = ["CrossEntropyMinimum", "cross_entropy_minimum"]


@dataclass(frozen=True)
class CrossEntropyMinimum:
    """The minimum over W, H, b; ``float()`` of it is its value f*.

    Attributes:
        num_classes: K.
        samples_per_class: n.
        weight_decay_W: λ_W.
        weight_decay_H: λ_H.
        value: f*; log K at a trivial minimum.
        rho: ρ = ‖W‖²_F = (K-1) m √(nλ_H/λ_W).
        margin: m = z_y - z_j for every wrong class j, the same for all samples.
        p: probability that the model gives to the wrong classes together, (K-1) √(nλ_Wλ_H).
        is_trivial: whether W = 0 and H = 0 is the minimum.
    """

    num_classes: int
    samples_per_class: int
    weight_decay_W: float
    weight_decay_H: float
    value: float
    rho: float
    margin: float
    p: float
    is_trivial: bool

    def __float__(self) -> float:
        return self.value

    def minimizer(self, dim: int, *, generator: torch.Generator | None = None) -> Minimizer:
        """A simplex equiangular tight frame with h_{k,i} = √(λ_W/(λ_H n)) w_k, and b = 0.

        Args:
            dim: d >= K - 1; any d >= 1 at a trivial minimum.
            generator: source of a random rotation.

        Returns:
            W (K, d), H (N, d) and b (K,) in float64.

        Raises:
            FrameSizeError: d < K - 1.
        """
        K, n = self.num_classes, self.samples_per_class
        ratio = math.sqrt(n) * math.sqrt(self.weight_decay_H) / math.sqrt(self.weight_decay_W)
        W, H = collapsed_factors(self.margin, 0.0, K, n, dim, ratio, generator=generator)
        return Minimizer(W, H, torch.zeros(K, dtype=torch.float64))


def cross_entropy_minimum(
    K: int, n: int, weight_decay_W: float, weight_decay_H: float
) -> CrossEntropyMinimum:
    """f* = min over W, H, b of  (1/Kn) Σ CE(W h_i + b, y_i) + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖².

    f* = -log(1-p) + p m with p = (K-1) √(nλ_Wλ_H) and m = log((K-1)(1-p)/p); log K where
    K √(nλ_Wλ_H) >= 1. It holds for d >= K - 1 features, and for any λ_b >= 0 or no b at all.

    Args:
        K: number of classes, >= 2.
        n: samples per class, >= 1.
        weight_decay_W: λ_W > 0.
        weight_decay_H: λ_H > 0.

    Raises:
        TypeError: K or n is not an integer, or a weight decay no number.
        FrameSizeError: K < 2.
        ValueError: n < 1, or a weight decay that is not a positive number.

    Source: Zhu et al. (2021), theorem 3.1 and its proof.
    """
    check_model_size(K, n)
    check_decay(weight_decay_W=weight_decay_W, weight_decay_H=weight_decay_H)
    q = math.sqrt(n) * math.sqrt(weight_decay_W) * math.sqrt(weight_decay_H)
    is_trivial = K * q >= 1
    if is_trivial:
        p, margin, value = (K - 1) / K, 0.0, math.log(K)
    else:
        p = (K - 1) * q
        margin = math.log1p(-p) - math.log(q)
        value = p * margin - math.log1p(-p)
    ratio = math.sqrt(n) * math.sqrt(weight_decay_H) / math.sqrt(weight_decay_W)
    rho = (K - 1) * margin * ratio
    return CrossEntropyMinimum(
        K, n, weight_decay_W, weight_decay_H, value, rho, margin, p, is_trivial
    )
