"""Directions of negative curvature: in closed form at saddles, and by the Lanczos method anywhere.

Let (W, H, b) be a critical point with ‖∇_Z g‖₂ > ν = √(λ_W λ_H) and W a = 0 for a unit vector a, which
exists where d > K, and wherever W has rank below d. From ∇_W f = ∇g Hᵀ + λ_W W = 0 and
∇_H f = Wᵀ ∇g + λ_H H = 0 follows λ_W WᵀW = λ_H HHᵀ, so Hᵀ a = 0 as well. With the top singular pair
(u, v) of ∇g take

    Δ_W = (λ_H/λ_W)^{1/4} u aᵀ,    Δ_H = -(λ_H/λ_W)^{-1/4} a vᵀ,    Δ_b = 0.

Then Δ_W H + W Δ_H = 0: the logits change only in second order, by Δ_W Δ_H = -u vᵀ, and

    ∇²f[Δ, Δ] = 2⟨∇g, Δ_W Δ_H⟩ + λ_W ‖Δ_W‖² + λ_H ‖Δ_H‖² = -2 (‖∇g‖₂ - √(λ_W λ_H)) < 0.

(Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained Features", 2021, appendix B.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence
from torch import Tensor

from ddn.errors import SolveError
from ddn_etf.ufm.features_model import FeaturesModel
from ddn_etf.ufm.landscape.certificate import require_linear_layer

__all__ = ["Eigenpair", "NegativeCurvature", "negative_curvature", "smallest_eigenvalue"]

Array = NDArray[np.float64]

_DENSE = 64


@dataclass(frozen=True, eq=False)
class NegativeCurvature:
    """The direction Δ at one point, with the second derivative that theory says and the actual one.

    Attributes:
        direction: Δ as a vector (size,).
        expected: 2 (√(λ_Wλ_H) - ‖∇_Z g‖₂).
        curvature: ∇²f[Δ, Δ], from a Hessian-vector product.
    """

    direction: Tensor
    expected: float
    curvature: float

    @property
    def rayleigh_quotient(self) -> float:
        """∇²f[Δ, Δ]/‖Δ‖², an upper bound of the smallest eigenvalue of ∇²f."""
        return self.curvature / self.direction.square().sum().item()


@dataclass(frozen=True, eq=False)
class Eigenpair:
    """An eigenvalue of ∇²f with its unit vector.

    Attributes:
        value: λ.
        vector: x (size,).
        residual: ‖∇²f x - λ x‖₂; some eigenvalue lies within it of λ.
    """

    value: float
    vector: Tensor
    residual: float


def negative_curvature(
    model: FeaturesModel, vector: Tensor, *, null_tolerance: float = 1e-4
) -> NegativeCurvature:
    """The direction above at a critical point, and the second derivative of f along it.

    Both are computed at any point; the formula for ``expected`` assumes a critical one. The curvature
    is negative where ‖∇_Z g‖₂ > √(λ_Wλ_H), and not otherwise.

    Args:
        model: an :class:`ddn_etf.ufm.UnconstrainedFeatures` without ReLU.
        vector: the point, (size,). It is read in float64.
        null_tolerance: ‖(√λ_W W, √λ_H Hᵀ) a‖ up to which a counts as a null vector, relative to the
            norm of that matrix, or to (λ_Wλ_H)^{1/4} where that is larger.

    Raises:
        TypeError: a model with two layers or ReLU.
        ValueError: W and Hᵀ have no common null vector (:func:`smallest_eigenvalue` needs none), or
            the point holds NaN or infinity.

    Source: Zhu et al. (2021), appendix B.
    """
    linear = require_linear_layer(model)
    vector = vector.detach().to(torch.float64)
    if not torch.isfinite(vector).all():
        raise ValueError("the point holds NaN or infinity: it has no direction")
    parts = linear.split(vector)
    root_W, root_H = math.sqrt(linear.weight_decay_W), math.sqrt(linear.weight_decay_H)
    both = torch.cat([root_W * parts["W"], root_H * parts["H"]])
    _, singular_values, right = torch.linalg.svd(both, full_matrices=both.shape[0] < linear.dim)
    a = right[-1]
    size = max(singular_values[0].item(), math.sqrt(root_W * root_H))
    if (both @ a).norm() > null_tolerance * size:
        raise ValueError(
            "W and H have no common null vector at this point (W has rank d), so the direction of "
            "Zhu et al. does not exist: use smallest_eigenvalue(), or a model with dim > num_classes"
        )
    v, spectrum, u = torch.linalg.svd(linear.loss_slope(vector), full_matrices=False)
    stretch = math.sqrt(root_H / root_W)
    direction = {name: torch.zeros_like(part) for name, part in parts.items()}
    direction["W"] = stretch * torch.outer(u[0], a)
    direction["H"] = -torch.outer(v[:, 0], a) / stretch
    delta = linear.join(direction)
    curvature = (delta @ linear.curvature(vector)(delta)).item()
    return NegativeCurvature(delta, 2 * (root_W * root_H - spectrum[0].item()), curvature)


def smallest_eigenvalue(
    model: FeaturesModel, vector: Tensor, *, tolerance: float = 1e-9, seed: int = 0
) -> Eigenpair:
    """min over ‖x‖ = 1 of xᵀ ∇²f x, by the Lanczos method on Hessian-vector products (SciPy's eigsh).

    Models of up to 64 variables have a dense Hessian instead.

    Args:
        model: any model. With ReLU, see :meth:`ddn_etf.ufm.FeaturesModel.curvature`.
        vector: the point, (size,). It is read in float64.
        tolerance: of the eigenvalue, relative to the largest one in magnitude.
        seed: of the vector the iteration starts from.

    Raises:
        SolveError: the iteration has not converged; a larger tolerance helps.
        ValueError: the point holds NaN or infinity.
    """
    vector = vector.detach().to("cpu", torch.float64)
    if not torch.isfinite(vector).all():
        raise ValueError("the point holds NaN or infinity: it has no Hessian")
    product = model.curvature(vector)
    if model.size <= _DENSE:
        values, vectors = torch.linalg.eigh(model.hessian(vector))
        return _pair(values[0].item(), vectors[:, 0], product)

    def apply(x: Array) -> Array:
        image: Array = product(torch.from_numpy(np.ascontiguousarray(x).reshape(-1))).numpy()
        return image

    start = np.random.default_rng(seed).standard_normal(model.size)
    try:
        (largest,), _ = _extreme(apply, start, 1e-3)
        # ARPACK measures an eigenvalue by its own size, and this one may be zero. Shifted by more than
        # the spectral radius all eigenvalues are negative, and this one is the largest in magnitude.
        shift = 1.1 * abs(float(largest))
        _, vectors = _extreme(lambda x: apply(x) - shift * x.reshape(-1), start, tolerance)
    except ArpackNoConvergence as error:
        raise SolveError(
            f"the Lanczos method has not found the smallest of {model.size} eigenvalues to "
            f"tolerance={tolerance}; pass a larger one"
        ) from error
    x = torch.from_numpy(np.ascontiguousarray(vectors[:, 0]))
    return _pair((x @ product(x)).item(), x, product)


def _extreme(
    apply: Callable[[Array], Array], start: Array, tolerance: float
) -> tuple[Array, Array]:
    """The eigenvalue of largest magnitude of a symmetric map, (1,), and its vector, (size, 1)."""
    size = len(start)
    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=apply, dtype=np.float64)
    values, vectors = scipy.sparse.linalg.eigsh(operator, k=1, which="LM", v0=start, tol=tolerance)
    return values, vectors


def _pair(value: float, vector: Tensor, product: Callable[[Tensor], Tensor]) -> Eigenpair:
    residual = (product(vector) - value * vector).norm().item()
    return Eigenpair(value, vector, residual)
