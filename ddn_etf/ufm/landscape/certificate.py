"""Is this point a global minimum? A certificate from the spectrum of the loss's gradient.

With Z = W H and ν = √(λ_W λ_H), weight decay is at least ν‖Z‖_* (:mod:`ddn_etf.ufm.factors`), so

    f(W, H, b) >= F(Z, b) = g(Z + b1ᵀ) + ν ‖Z‖_* + λ_b/2 ‖b‖²,

and F is convex. At a critical point of f, λ_W WᵀW = λ_H HHᵀ, hence f = F there, and ∇_Z g sends the
singular vectors of Z to -ν times each other: -∇_Z g is a subgradient of ν‖·‖_*, and the point a
global minimum of both, just if

    ‖∇_Z g‖₂ <= √(λ_W λ_H)                       (Zhu et al. 2021, theorem 3.2 and appendix B),

with equality unless Z = 0. Neither the loss nor the bias enters: it holds for any convex g.

Away from critical points the same spectrum bounds how far f is from its minimum. For every dual point
Θ with ‖Θ‖₂ <= ν, ν‖Z‖_* >= -⟨Θ, Z⟩ and g(X) >= ⟨Θ, X⟩ - g*(Θ), so that

    f* >= D(Θ) = -g*(Θ) + min_b [⟨Θ, b1ᵀ⟩ + λ_b/2 ‖b‖²].

∇g scaled down to ‖Θ‖₂ <= ν is such a point; D(∇g) = f* at a minimum. This bound needs no criticality,
no tolerance and no minimum number of features.

In floating point both are read with tolerances, and both are asked for. Near K√(nλ_Wλ_H) = 1, where
zero turns from a saddle into the minimum, the spectrum alone says little: at zero the excess
‖∇_Z g‖₂/ν - 1 is 1/(Kq) - 1 with q = √(nλ_Wλ_H), so that a tolerance t takes the saddle for a minimum
where 1 - t < Kq < 1. The values differ by no more than the order of t² there, and the gap says so.

The certificate is sufficient for every number of features. It is necessary where the minimum of F is
one of f, which d >= K ensures: with fewer features a minimum of f may lie above it, uncertified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.ufm.activations import Linear
from ddn_etf.ufm.checks import check_number
from ddn_etf.ufm.features_model import FeaturesModel
from ddn_etf.ufm.models import UnconstrainedFeatures

__all__ = ["Certificate", "certify", "require_linear_layer"]

_ROUNDING = 1e-12
"""Of f and of its lower bound in float64, both sums of terms of order 1."""


@dataclass(frozen=True)
class Certificate:
    """What the spectrum of ∇g says about one point.

    Attributes:
        value: f.
        gradient_norm: ‖∇f‖₂.
        spectral_norm: ‖∇_Z g‖₂.
        threshold: √(λ_W λ_H).
        lower_bound: a number D <= f* that holds whatever the point is, up to rounding.
        tolerance: how far ‖∇_Z g‖₂ may exceed the threshold, relative to it, and f the lower bound,
            relative to f.
        gradient_tolerance: how large ‖∇f‖₂ may be at a critical point, relative to the threshold.
    """

    value: float
    gradient_norm: float
    spectral_norm: float
    threshold: float
    lower_bound: float
    tolerance: float
    gradient_tolerance: float

    @property
    def margin(self) -> float:
        """√(λ_Wλ_H) - ‖∇_Z g‖₂, zero to rounding at a minimum with Z ≠ 0 and negative at a saddle."""
        return self.threshold - self.spectral_norm

    @property
    def excess(self) -> float:
        """‖∇_Z g‖₂/√(λ_Wλ_H) - 1, zero at a minimum with Z ≠ 0, negative at one with Z = 0.

        Positive at a saddle.
        """
        return self.spectral_norm / self.threshold - 1

    @property
    def gap(self) -> float:
        """f - D, at least f - f*, so that no point is lower by more.

        It holds at every point, critical or not, and whatever the tolerances are. At a minimum it is 0;
        near one it is of the order of ‖∇f‖ ‖v‖, much larger than f - f*. A large gap refutes nothing: it
        says that the gradient is not small enough yet, that the point is a saddle, or that d < K.
        Rounding may make it slightly negative, by 1e-12 at most where f is not above some units.
        """
        return self.value - self.lower_bound

    @property
    def is_critical(self) -> bool:
        """Whether ‖∇f‖₂ is within its tolerance."""
        return self.gradient_norm <= self.gradient_tolerance * self.threshold

    @property
    def is_global(self) -> bool:
        """Whether the point is a global minimum, as closely as the tolerances say.

        All three are asked for: the point is critical; ‖∇_Z g‖₂ <= (1 + tolerance) √(λ_Wλ_H); and the
        bound is met, f - D <= tolerance f + 1e-12, the last number being the rounding of f. So True is a
        guarantee for the value, f <= (1 + tolerance) f* to first order. For the point itself it is one
        only where another critical point with so nearly the same value cannot be: not where
        ``|K√(nλ_Wλ_H) - 1| <= tolerance``.

        False without :attr:`excess` worth speaking of says that the solver stopped early.
        """
        return (
            self.is_critical
            and self.excess <= self.tolerance
            and self.gap <= self.tolerance * self.value + _ROUNDING
        )


def certify(
    model: FeaturesModel,
    vector: Tensor,
    *,
    tolerance: float = 1e-6,
    gradient_tolerance: float = 1e-4,
) -> Certificate:
    """‖∇_Z g‖₂ against √(λ_Wλ_H), and a lower bound on f*, at one point.

    Args:
        model: an :class:`ddn_etf.ufm.UnconstrainedFeatures` without ReLU.
        vector: the point, (size,). It is read in float64.
        tolerance: how far ‖∇_Z g‖₂ may exceed the threshold, relative to it, and f the lower bound,
            relative to f, at what is called a global minimum. A solver must have gone far enough for
            it: 1e-6 is met by :class:`ddn_etf.ufm.LBFGS` and :class:`ddn_etf.ufm.TrustRegion` as they
            are. A larger one calls saddles minima where K√(nλ_Wλ_H) is as near 1.
        gradient_tolerance: ‖∇f‖₂ up to which a point counts as critical, relative to the threshold.

    Raises:
        TypeError: a model with two layers or ReLU: there is no such certificate for it.
        ValueError: the point holds NaN or infinity, or a tolerance is not a positive number.
        ShapeError, DtypeError: no point of the model.

    Source: Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained Features" (2021).
    """
    linear = require_linear_layer(model)
    check_number("tolerance", tolerance)
    check_number("gradient_tolerance", gradient_tolerance)
    if not torch.isfinite(vector).all():
        raise ValueError("the point holds NaN or infinity: there is nothing to certify")
    vector = vector.detach().to(torch.float64)
    labels = linear.labels(vector.device)
    value, gradient = linear.value_and_gradient(vector)
    slope = linear.loss_slope(vector)
    threshold = math.sqrt(linear.weight_decay_W) * math.sqrt(linear.weight_decay_H)
    balanced, _ = linear.bias.dual(slope, linear.loss, labels)
    # A scaled Θ stays in the domain of g* and balanced.
    scale = threshold / max(spectral_norm(balanced), threshold)
    dual, bias_cost = linear.bias.dual(scale * balanced, linear.loss, labels)
    lower_bound = -linear.loss.conjugate(dual, labels) - bias_cost
    return Certificate(
        value=value.item(),
        gradient_norm=gradient.norm().item(),
        spectral_norm=spectral_norm(slope),
        threshold=threshold,
        lower_bound=lower_bound.item(),
        tolerance=tolerance,
        gradient_tolerance=gradient_tolerance,
    )


def require_linear_layer(model: FeaturesModel) -> UnconstrainedFeatures:
    """The model, if it has one linear layer.

    Raises:
        TypeError: it has not.
    """
    if not isinstance(model, UnconstrainedFeatures) or model.activation != Linear():
        raise TypeError(
            "the spectral certificate and its direction of negative curvature are for "
            "UnconstrainedFeatures with activation Linear(): with two layers or ReLU the problem is "
            "not a convex one in the logits; smallest_eigenvalue() works for every model"
        )
    return model


def spectral_norm(matrix: Tensor) -> float:
    """The largest singular value."""
    norm: Tensor = torch.linalg.matrix_norm(matrix, ord=2)
    return norm.item()
