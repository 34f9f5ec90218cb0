"""The Moreau decomposition w = s − z of a vector into a complementary pair s ∈ K, z ∈ K*, ⟨s, z⟩ = 0.

s is the projection of w onto K. Both parts are computed by formulas of their own, not one as a difference.
Every function takes w ``(..., size)``. The projections onto exponential and power cones are the root of a
function of one variable.

Sources: Parikh and Boyd (2014), Proximal algorithms, §6.3; Friberg (2023), Projection onto the exponential
cone: a univariate root-finding problem; Hien (2015), Differential properties of Euclidean projection
onto power cone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from ddn.conic.cones import Block, Kind

__all__ = ["decompose", "exponential_regions", "power_regions"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Pair = tuple[Array, Array]

_TINY = np.finfo(np.float64).tiny


def decompose(block: Block, w: Array, ratio: Array) -> Pair:
    """s and z, ``(..., count, size)`` each, for all cones of a block.

    Args:
        block: what the rows are.
        w: ``(..., count, size)``.
        ratio: for exponential cones, x/y of a point near s, ``(..., count)``.
    """
    if block.kind is Kind.ZERO:
        return np.zeros_like(w), -w
    if block.kind is Kind.NONNEGATIVE:
        return np.maximum(w, 0), np.maximum(-w, 0)
    if block.kind is Kind.SECOND_ORDER:
        return _second_order(w)
    if block.kind is Kind.SEMIDEFINITE:
        return _semidefinite(w, block.order)
    if block.kind is Kind.EXPONENTIAL:
        return _exponential(w, ratio)
    return _power(w, np.array(block.exponents))


def _second_order(w: Array) -> Pair:
    """w = σ (1, d) − τ (1, −d) with a unit vector d."""
    t, x = w[..., 0], w[..., 1:]
    radius = np.linalg.norm(x, axis=-1)
    direction = x / np.where(radius > 0, radius, 1.0)[..., None]
    sigma, tau = np.maximum((t + radius) / 2, 0), np.maximum((radius - t) / 2, 0)
    s = sigma[..., None] * np.concatenate([np.ones_like(t)[..., None], direction], -1)
    z = tau[..., None] * np.concatenate([np.ones_like(t)[..., None], -direction], -1)
    inside, outside = (radius <= t)[..., None], (radius <= -t)[..., None]
    s = np.where(inside, w, np.where(outside, 0.0, s))
    z = np.where(inside, 0.0, np.where(outside, -w, z))
    return s, z


def _semidefinite(w: Array, order: int) -> Pair:
    column, row = np.tril_indices(order)  # of the upper triangle, column by column
    weight = np.where(row == column, 1.0, np.sqrt(2.0))
    matrix = np.zeros((*w.shape[:-1], order, order))
    matrix[..., row, column] = matrix[..., column, row] = w / weight
    values, vectors = np.linalg.eigh(matrix)
    pair = []
    for part in (np.maximum(values, 0), np.maximum(-values, 0)):
        product = (vectors * part[..., None, :]) @ vectors.swapaxes(-1, -2)
        pair.append(product[..., row, column] * weight)
    return pair[0], pair[1]


def _exponential(w: Array, ratio: Array) -> Pair:
    """On the curved boundary w = α p + β n, p = (r, 1, eʳ), n = (eʳ, (1 − r) eʳ, −1), w·(p × n) = 0."""
    in_cone, in_polar, flat = exponential_regions(w)
    curved = ~(in_cone | in_polar | flat)
    s, z = np.where(in_cone[..., None], w, 0.0), np.where(in_polar[..., None], -w, 0.0)
    keep = np.array([1.0, 0.0, 0.0])
    height = np.maximum(w[..., 2:], 0) * np.array([0.0, 0.0, 1.0])
    on_face = w * keep + height
    s, z = np.where(flat[..., None], on_face, s), np.where(flat[..., None], on_face - w, z)
    target = w[curved]
    r = np.clip(ratio[curved], -_LARGEST_RATIO, _LARGEST_RATIO)
    for _ in range(_NEWTON_STEPS):
        value, slope = _misalignment(target, r)
        step = value / np.where(slope == 0, 1.0, slope)
        r = np.clip(r - np.clip(step, -1, 1), -_LARGEST_RATIO, _LARGEST_RATIO)
    s[curved], z[curved] = _on_rays(target, r)
    error = np.abs(s[curved] - z[curved] - target).max(-1, initial=0.0)
    lost = np.flatnonzero(~(error <= _FAR * np.abs(target).max(-1, initial=0.0)))
    if len(lost):
        r[lost] = [_search(one) for one in target[lost]]
        s[curved], z[curved] = _on_rays(target, r)
    return s, z


def _on_rays(w: Array, r: Array | float) -> Pair:
    """α p and −β n."""
    point, normal = _boundary(r)
    alpha = (w * point).sum(-1, keepdims=True) / (point**2).sum(-1, keepdims=True)
    beta = (w * normal).sum(-1, keepdims=True) / (normal**2).sum(-1, keepdims=True)
    return np.maximum(alpha, 0) * point, -np.maximum(beta, 0) * normal


def _search(w: Array) -> float:
    """The root r with α, β ≥ 0 of one vector, wherever it is: of all roots the one that gives w back."""
    grid = np.sinh(np.linspace(-1, 1, 201) * np.arcsinh(_LARGEST_RATIO))
    value, _ = _misalignment(w, grid)
    best, error = 0.0, np.inf
    for k in np.flatnonzero(value[:-1] * value[1:] <= 0):
        root = brentq(lambda r: _misalignment(w, r)[0], grid[k], grid[k + 1], xtol=1e-15)
        s, z = _on_rays(w, root)
        found = float(np.abs(s - z - w).max())
        if found < error:
            best, error = root, found
    return best


_NEWTON_STEPS = 12
# Newton's method has found no root, or one with α or β negative.
_FAR = 1e-9
# Beyond, eʳ is too large or too small to be told from a face of the cone.
_LARGEST_RATIO = 300.0


def _boundary(r: Array | float) -> Pair:
    exponential, one = np.exp(r), np.ones_like(r)
    normal = np.stack([exponential, (1 - r) * exponential, -one], -1)
    return np.stack([r, one, exponential], -1), normal


def _misalignment(w: Array, r: Array | float) -> tuple[Array, Array]:
    """w·(p × n) and its derivative, both divided by 1 + e²ʳ."""
    e = np.exp(r)
    x, y, z = np.moveaxis(w, -1, 0)
    # p × n = (−1 − (1 − r) e², r + e², (r (1 − r) − 1) e)
    value = -x * (1 + (1 - r) * e * e) + y * (r + e * e) + z * (r * (1 - r) - 1) * e
    slope = -x * (1 - 2 * r) * e * e + y * (1 + 2 * e * e) + z * (r * (1 - r) - 1 + 1 - 2 * r) * e
    size = 1 + e * e
    return value / size, slope / size


def exponential_regions(w: Array) -> tuple[Flags, Flags, Flags]:
    """Where w is in the cone, where −w is in the dual cone, and where s is on the face y = 0."""
    x, y, z = np.moveaxis(w, -1, 0)
    open_part = (y > 0) & (z > 0)
    ratio = np.where(open_part, z, 1.0) / np.where(open_part, y, 1.0)
    in_cone = (open_part & (x <= y * np.log(ratio))) | ((x <= 0) & (y == 0) & (z >= 0))
    open_part = (x > 0) & (z < 0)
    safe = np.where(open_part, x, 1.0)
    bound = np.log(np.where(open_part, -z, 1.0))
    in_polar = (open_part & (np.log(safe) + y / safe - 1 <= bound)) | (
        (x == 0) & (y <= 0) & (z <= 0)
    )
    in_polar &= ~in_cone
    return in_cone, in_polar, ~in_cone & ~in_polar & (x <= 0) & (y <= 0)


def _power(w: Array, exponents: Array) -> Pair:
    """On the curved boundary u = (u⁰ + √(u⁰² + 4 α ρ ν))/2, ν = |w⁰| − ρ, and ρ = |w| solves Π u^α = ρ."""
    in_cone, in_polar, flat = power_regions(w, exponents)
    u, height = w[..., :-1], np.abs(w[..., -1])
    low, high = np.zeros_like(height), height.copy()
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        moved = _moved(u, exponents, middle, height - middle)
        mean = np.exp((exponents * np.log(np.maximum(moved, _TINY))).sum(-1))
        above = mean > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    rho = (low + high) / 2
    nu = height - rho
    moved = np.maximum(_moved(u, exponents, rho, nu), _TINY)
    sign = np.sign(w[..., -1:])
    s = np.concatenate([moved, sign * rho[..., None]], -1)
    z = np.concatenate([exponents * (rho * nu)[..., None] / moved, -sign * nu[..., None]], -1)
    zero = np.zeros_like(height)[..., None]
    s_flat = np.concatenate([np.maximum(u, 0), zero], -1)
    z_flat = np.concatenate([np.maximum(-u, 0), zero], -1)
    for where, s_there, z_there in (
        (flat, s_flat, z_flat),
        (in_cone, w, 0 * w),
        (in_polar, 0 * w, -w),
    ):
        s, z = (
            np.where(where[..., None], there, part) for there, part in ((s_there, s), (z_there, z))
        )
    return s, z


_BISECTIONS = 70


def _moved(u: Array, exponents: Array, rho: Array, nu: Array) -> Array:
    product = 4 * exponents * (rho * nu)[..., None]
    root = np.sqrt(u * u + product)
    # For u < 0 the sum would cancel.
    other = np.where(u > 0, 1.0, np.maximum(2 * (root - u), _TINY))
    return np.where(u > 0, (u + root) / 2, product / other)


def power_regions(w: Array, exponents: Array) -> tuple[Flags, Flags, Flags]:
    """Where w is in the cone, where −w is in the dual cone, and where s has w = 0."""
    in_cone = _in_power(w, np.ones_like(exponents), exponents)
    in_polar = _in_power(-w, exponents, exponents) & ~in_cone
    flat = np.abs(w[..., -1]) <= _FLAT * np.linalg.norm(w, axis=-1)
    return in_cone, in_polar, flat & ~in_cone & ~in_polar


_FLAT = 1e-9


def _in_power(w: Array, divisor: Array, exponents: Array) -> Flags:
    u, height = w[..., :-1] / divisor, np.abs(w[..., -1])
    positive = (u > 0).all(-1)
    mean = (exponents * np.log(np.where(u > 0, u, 1.0))).sum(-1)
    inside = positive & (mean >= np.log(np.maximum(height, _TINY)))
    return np.asarray(inside | ((u >= 0).all(-1) & (height == 0)))
