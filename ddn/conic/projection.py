"""The derivative of the projection onto a cone, in its eigenbasis.

At a complementary pair s ∈ K, z ∈ K*, ⟨s, z⟩ = 0, the point s is the projection of w = s − z (Moreau).
Where the projection is differentiable, its derivative D is symmetric with eigenvalues in [0, 1]:

    D = V diag(δ) Vᵀ,     δ = 1 where s moves freely,  δ = 0 where z does,  between them on curved boundaries.

Everything is computed from the pair, never from the difference w alone where that would lose digits.
Every function takes pairs ``(..., size)`` and returns V ``(..., size, size)`` (None for the identity)
and δ ``(..., size)``. Where s and z touch boundaries of the same kind (no strict complementarity), the
projection has a kink, and D is one of its one-sided derivatives.

Sources: Parikh and Boyd (2014), Proximal algorithms, §6.3; Ali, Wong and Kolter (2017), A semismooth Newton
method for fast, generic convex programming, app. A; Malick and Sendov (2006) for the semidefinite cone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ddn.conic.cones import Block, Kind
from ddn.conic.moreau import exponential_regions, power_regions

__all__ = ["projection_derivative"]

Array = NDArray[np.float64]
Eigen = tuple[Array | None, Array]


def projection_derivative(block: Block, s: Array, z: Array) -> Eigen:
    """V and δ for all cones of a block.

    Args:
        block: what the rows are.
        s: ``(..., count, size)``, in the cone.
        z: ``(..., count, size)``, in the dual cone, with ⟨s, z⟩ = 0 for every cone.

    Returns:
        V ``(..., count, size, size)``, or None for the identity, and δ ``(..., count, size)``.
    """
    if block.kind is Kind.POWER:
        return _power(s, z, np.array(block.exponents))
    if block.kind is Kind.SEMIDEFINITE:
        return _semidefinite(s, z, block.order)
    return _BY_KIND[block.kind](s, z)


def _zero(s: Array, z: Array) -> Eigen:
    return None, np.zeros_like(s)


def _nonnegative(s: Array, z: Array) -> Eigen:
    return None, np.where(s > z, 1.0, 0.0)


def _second_order(s: Array, z: Array) -> Eigen:
    """With w = (t, x): eigenvalues 1, 0 along (1, ±x/‖x‖), and (1 + t/‖x‖)/2 on what is orthogonal to x."""
    w = s - z
    t, x = w[..., 0], w[..., 1:]
    if w.shape[-1] == 1:
        return _nonnegative(s, z)
    radius = np.linalg.norm(x, axis=-1)
    inside, outside = radius <= t, radius <= -t
    safe = np.where(radius > 0, radius, 1.0)
    direction = x / safe[..., None]
    direction[radius == 0, 0] = 1.0
    delta = np.empty_like(w)
    delta[..., 0], delta[..., 1] = 1.0, 0.0
    # At the boundary s = (σ, σ d) and z = (τ, −τ d): (1 + t/‖x‖)/2 = σ/(σ + τ), without cancellation.
    sigma, tau = np.abs(s[..., 0]), np.abs(z[..., 0])
    total = sigma + tau
    delta[..., 2:] = (sigma / np.where(total > 0, total, 1.0))[..., None]
    delta[inside], delta[outside] = 1.0, 0.0
    basis = np.zeros((*w.shape, w.shape[-1]))
    half = np.sqrt(0.5)
    basis[..., 0, 0] = basis[..., 0, 1] = half
    basis[..., 1:, 0], basis[..., 1:, 1] = half * direction, -half * direction
    basis[..., 1:, 2:] = _orthogonal_complement(direction)
    return basis, delta


def _semidefinite(s: Array, z: Array, order: int) -> Eigen:
    """With eigenvectors u_i of S − Z: on sym(u_i u_jᵀ) δ = 1, 0 or λ⁺/(λ⁺ + |λ⁻|), by signs of λ_i, λ_j."""
    column, row = np.tril_indices(order)  # of the upper triangle, column by column
    weight = np.where(row == column, 1.0, np.sqrt(2.0))
    matrix = np.zeros((*s.shape[:-1], order, order))
    matrix[..., row, column] = matrix[..., column, row] = (s - z) / weight
    values, vectors = np.linalg.eigh(matrix)
    positive, size = values > 0, np.abs(values)
    first, second = size[..., row], size[..., column]
    total = first + second
    share = np.where(positive[..., row], first, second) / np.where(total > 0, total, 1.0)
    same = positive[..., row] == positive[..., column]
    delta = np.where(same, np.where(positive[..., row], 1.0, 0.0), share)
    left, right = vectors[..., row, :], vectors[..., column, :]
    basis = left[..., row] * right[..., column] + left[..., column] * right[..., row]
    return basis * (weight[:, None] * weight / 2), delta


def _exponential(s: Array, z: Array) -> Eigen:
    """On the curved boundary D = t₁t₁ᵀ + t₂t₂ᵀ/(1 + κ (a·t₂)²), t₁ = s/‖s‖, t₂ ⊥ s, z.

    The boundary is c = y e^{x/y} − z = 0 with ∇²c = (e^{x/y}/y) a aᵀ, a = (1, −x/y, 0), and the
    multiplier is ν = −∇c: ν e^{x/y} = −z₁, so that κ = −z₁/y.
    """
    w = s - z
    in_cone, in_polar, flat = exponential_regions(w)
    curved = ~(in_cone | in_polar | flat)
    basis = np.broadcast_to(np.eye(3), (*w.shape, 3)).copy()
    delta = np.zeros_like(w)
    delta[in_cone] = 1.0
    # The face {x ≤ 0, y = 0, z ≥ 0}: the projection is (x, 0, max(z, 0)).
    delta[flat] = np.stack([np.ones(w.shape[:-1]), 0 * w[..., 0], w[..., 2] > 0], -1)[flat]
    point, normal = s[curved], z[curved]
    along = point / np.linalg.norm(point, axis=-1, keepdims=True)
    normal = normal - (normal * along).sum(-1, keepdims=True) * along
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    across = np.cross(normal, along)
    y = np.maximum(point[:, 1], np.finfo(np.float64).tiny)
    bend = (np.maximum(-z[curved][:, 0], 0) / y) * (
        across[:, 0] - (point[:, 0] / y) * across[:, 1]
    ) ** 2
    basis[curved] = np.stack([along, across, normal], -1)
    delta[curved] = np.stack([np.ones_like(y), 1 / (1 + bend), np.zeros_like(y)], -1)
    return basis, delta


def _power(s: Array, z: Array, exponents: Array) -> Eigen:
    """On the curved boundary D = N (I + NᵀHN)⁻¹ Nᵀ, N ⊥ z, H = diag(v/u) − v vᵀ/⟨u, v⟩ on the first rows.

    The boundary is c = |w| − g(u) = 0, g = Π u^α; with the multiplier ν = |z_w|, v = ν α g/u and ⟨u, v⟩ = ν
    g, so that H = ν ∇²c needs nothing but the pair.
    """
    w = s - z
    u, v = s[..., :-1], z[..., :-1]
    in_cone, in_polar, flat = power_regions(w, exponents)
    curved = ~(in_cone | in_polar | flat)
    basis = np.broadcast_to(np.eye(w.shape[-1]), (*w.shape, w.shape[-1])).copy()
    delta = np.zeros_like(w)
    delta[in_cone] = 1.0
    # Where w = 0, the projection is (max(u, 0), 0); how the last coordinate starts to move depends on
    # the exponents of the coordinates that are pressed against zero.
    free = w[..., :-1] > 0
    pressed = np.where(free, 0.0, exponents).sum(-1)
    share = np.abs(s[..., -1]) / np.maximum(np.abs(w[..., -1]), np.finfo(np.float64).tiny)
    last = np.where(pressed == 0.5, np.minimum(share, 1.0), np.where(pressed < 0.5, 1.0, 0.0))
    delta[flat] = np.concatenate([np.where(free, 1.0, 0.0), last[..., None]], -1)[flat]
    u, v, normal = u[curved], v[curved], z[curved]
    u, v = np.maximum(u, np.finfo(np.float64).tiny), np.maximum(v, 0)
    normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    hessian = np.zeros((*normal.shape, normal.shape[-1]))
    hessian[:, :-1, :-1] = -v[:, :, None] * v[:, None, :] / (u * v).sum(-1)[:, None, None]
    index = np.arange(v.shape[-1])
    hessian[:, index, index] += v / u
    tangent = _orthogonal_complement(normal)
    values, vectors = np.linalg.eigh(tangent.swapaxes(-1, -2) @ hessian @ tangent)
    basis[curved] = np.concatenate([normal[..., None], tangent @ vectors], -1)
    delta[curved] = np.concatenate(
        [np.zeros((len(values), 1)), 1 / (1 + np.maximum(values, 0))], -1
    )
    return basis, delta


def _orthogonal_complement(direction: Array) -> Array:
    """Orthonormal columns orthogonal to unit vectors: all but the first of a Householder reflection."""
    size = direction.shape[-1]
    reflector = direction.copy()
    reflector[..., 0] += np.where(direction[..., 0] >= 0, 1.0, -1.0)
    norm = (reflector**2).sum(-1)[..., None, None]
    reflection = np.eye(size) - 2 * reflector[..., :, None] * reflector[..., None, :] / norm
    return np.asarray(reflection[..., 1:])


_BY_KIND: dict[Kind, Callable[[Array, Array], Eigen]] = {
    Kind.ZERO: _zero,
    Kind.NONNEGATIVE: _nonnegative,
    Kind.SECOND_ORDER: _second_order,
    Kind.EXPONENTIAL: _exponential,
}
