"""The global minimum of the mean squared error with weight decay, in closed form.

    f(W, H, b) = (1/2N) ‖W H + b1ᵀ - Y‖² + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖²,   Y = I ⊗ 1_nᵀ, N = Kn.

Derivation (results of Tirer and Bruna, "Extended Unconstrained Features Model for Exploring Deep
Neural Collapse", 2022, theorems 3.1 and 3.2, and of Zhou et al., "On the Optimization Landscape of
Neural Collapse under MSE Loss", 2022). As for cross entropy (:mod:`ddn_etf.ufm.cross_entropy`), with
Z = W H the problem is convex and symmetric, so there is a minimiser Z = (x M + a J) ⊗ 1_nᵀ,
b = (t/K) 1, and

    K f = ½ (K-1) (x-1)² + (K-1) c x  +  ½ (a + t - 1)² + c a + ½ λ_b t²,   c = K √(nλ_Wλ_H), x, a >= 0.

x = (1-c)₊. Without bias t = 0, a = (1-c)₊. With a free one λ_b = 0, a = 0 and t = 1. With λ_b > 0,
either a > 0, where both derivatives vanish at λ_b t = c and a = 1 - c - c/λ_b; or a = 0 and
t = 1/(1+λ_b). The frame is an orthogonal one for a = x, a simplex one for a = 0, and passes from the
one to the other as λ_b grows from c/(1-c) to ∞.
"""

# ruff: noqa: N815 - W and H are the papers' letters

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.frames import centering_matrix
from ddn_etf.ufm.biases import Bias, NoBias, check_bias
from ddn_etf.ufm.factors import Minimizer, check_decay, check_model_size, collapsed_factors

__all__ = ["MeanSquaredErrorMinimum", "mean_squared_error_minimum"]


@dataclass(frozen=True)
class MeanSquaredErrorMinimum:
    """The minimum over W, H, b; ``float()`` of it is its value f*.

    Attributes:
        num_classes: K.
        samples_per_class: n.
        weight_decay_W: λ_W.
        weight_decay_H: λ_H.
        bias: which b are allowed.
        value: f*.
        c: K √(nλ_Wλ_H), the shrinkage of the logits.
        gain: x = (1-c)₊, what is left of the logits along M.
        ones_direction_gain: a, what is left of them along J: x in an orthogonal frame, 0 in a simplex
            frame.
        b: every entry of the bias.
        is_trivial: whether W = 0 and H = 0 is the minimum.
    """

    num_classes: int
    samples_per_class: int
    weight_decay_W: float
    weight_decay_H: float
    bias: Bias
    value: float
    c: float
    gain: float
    ones_direction_gain: float
    b: float
    is_trivial: bool

    def __float__(self) -> float:
        return self.value

    @property
    def ratio(self) -> float:
        """√(nλ_H/λ_W) = ‖w_k‖/‖h_k‖ = 1/s."""
        return math.sqrt(self.samples_per_class * self.weight_decay_H / self.weight_decay_W)

    @property
    def gram_scale(self) -> float:
        """The factor s x = √(λ_W/(nλ_H)) (1-c)₊ of M, or of I, in :attr:`gram`."""
        return self.gain / self.ratio

    @property
    def gram(self) -> Tensor:
        """Gram matrix of the class means h_k, s (x M + a J), (K, K) in float64."""
        M = centering_matrix(self.num_classes, dtype=torch.float64, device="cpu")
        J = torch.full_like(M, 1 / self.num_classes)
        return (self.gain * M + self.ones_direction_gain * J) / self.ratio

    def minimizer(self, dim: int, *, generator: torch.Generator | None = None) -> Minimizer:
        """W with w_k = √(nλ_H/λ_W) h_k, features with that Gram matrix, and b.

        Args:
            dim: d, at least the rank of the Gram matrix: K where a > 0, K - 1 where a = 0.
            generator: source of a random rotation. Without one, and without bias, the features are
                not negative, so that the minimiser is one of the model with ReLU as well.

        Returns:
            W (K, d), H (N, d) and b (K,) in float64.

        Raises:
            FrameSizeError: d is below that rank.
        """
        K, n = self.num_classes, self.samples_per_class
        W, H = collapsed_factors(
            self.gain, self.ones_direction_gain, K, n, dim, self.ratio, generator=generator
        )
        return Minimizer(W, H, torch.full((K,), self.b, dtype=torch.float64))


def mean_squared_error_minimum(
    K: int, n: int, weight_decay_W: float, weight_decay_H: float, bias: Bias = NoBias()
) -> MeanSquaredErrorMinimum:
    """f* = min over W, H, b of  (1/2Kn) ‖W H + b1ᵀ - Y‖² + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖².

    With c = K √(nλ_Wλ_H) < 1: f* = c - c²/2 without bias, (K-1)/K times that with a free one, and
    c - c²/2 - c²/(2Kλ_b) with weight decay λ_b > c/(1-c). It holds for d >= K features (d >= K - 1
    where the frame is a simplex one).

    Args:
        K: number of classes, >= 2.
        n: samples per class, >= 1.
        weight_decay_W: λ_W > 0.
        weight_decay_H: λ_H > 0.
        bias: NoBias(), FreeBias() or RegularizedBias(λ_b).

    Raises:
        TypeError: K or n is not an integer, or the bias no object, or a weight decay no number.
        FrameSizeError: K < 2.
        ValueError: n < 1, or a weight decay that is not a positive number.

    Source: Tirer and Bruna (2022), theorems 3.1 and 3.2; Zhou et al. (2022), theorem 3.1.
    """
    check_bias(bias)
    check_model_size(K, n)
    check_decay(weight_decay_W=weight_decay_W, weight_decay_H=weight_decay_H)
    c = K * math.sqrt(n) * math.sqrt(weight_decay_W) * math.sqrt(weight_decay_H)
    x = max(0.0, 1 - c)
    a, t, cost = _along_ones(c, bias.weight_decay)
    simplex_cost = c - c * c / 2 if c < 1 else 0.5
    return MeanSquaredErrorMinimum(
        num_classes=K,
        samples_per_class=n,
        weight_decay_W=weight_decay_W,
        weight_decay_H=weight_decay_H,
        bias=bias,
        value=((K - 1) * simplex_cost + cost) / K,
        c=c,
        gain=x,
        ones_direction_gain=a,
        b=t / K,
        is_trivial=x == 0 and a == 0,
    )


def _along_ones(c: float, weight_decay: float | None) -> tuple[float, float, float]:
    """a, t and the least ½ (a + t - 1)² + c a + ½ λ_b t² over a >= 0 and t; t = 0 for None."""
    if weight_decay is None:
        return max(0.0, 1 - c), 0.0, (c - c * c / 2 if c < 1 else 0.5)
    if weight_decay == 0:
        return 0.0, 1.0, 0.0
    t = c / weight_decay
    a = 1 - c - t
    if a > 0:
        return a, t, c - c * c / 2 - c * t / 2
    return 0.0, 1 / (1 + weight_decay), weight_decay / (2 * (1 + weight_decay))
