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

The certificate is sufficient for every number of features. It is necessary where the minimum of F is
one of f, which d >= K ensures: with fewer features a minimum of f may lie above it, uncertified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.ufm.activations import Linear
from ddn_etf.ufm.models import FeaturesModel, UnconstrainedFeatures

__all__ = ["Certificate", "certify", "require_linear_layer"]


@dataclass(frozen=True)
class Certificate:
    """What the spectrum of ∇g says about one point.

    Attributes:
        value: f.
        gradient_norm: ‖∇f‖₂.
        spectral_norm: ‖∇_Z g‖₂.
        threshold: √(λ_W λ_H).
        lower_bound: a number D <= f* that holds whatever the point is, up to rounding.
        tolerance: how far ‖∇_Z g‖₂ may exceed the threshold, relative to it.
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
    def gap(self) -> float:
        """f - D, a bound on f - f*; its rounding error may make it slightly negative."""
        return self.value - self.lower_bound

    @property
    def is_critical(self) -> bool:
        """Whether ‖∇f‖₂ is within its tolerance."""
        return self.gradient_norm <= self.gradient_tolerance * self.threshold

    @property
    def is_global(self) -> bool:
        """Whether the point is critical and ‖∇_Z g‖₂ <= (1 + tolerance) √(λ_Wλ_H)."""
        return self.is_critical and self.margin >= -self.tolerance * self.threshold


def certify(
    model: FeaturesModel,
    vector: Tensor,
    *,
    tolerance: float = 1e-4,
    gradient_tolerance: float = 1e-4,
) -> Certificate:
    """‖∇_Z g‖₂ against √(λ_Wλ_H), and a lower bound on f*, at one point.

    Args:
        model: an :class:`ddn_etf.ufm.UnconstrainedFeatures` without ReLU.
        vector: the point, (size,). It is read in float64.
        tolerance: how far ‖∇_Z g‖₂ may exceed the threshold, relative to it.
        gradient_tolerance: ‖∇f‖₂ up to which a point counts as critical, relative to the threshold.

    Raises:
        TypeError: a model with two layers or ReLU: there is no such certificate for it.
        ValueError: the point holds NaN or infinity.
        ShapeError, DtypeError: no point of the model.

    Source: Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained Features" (2021).
    """
    linear = require_linear_layer(model)
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
