"""The last digits of a solution by Newton's method on the optimality conditions.

An interior-point method stops when the duality gap is small; the solution itself is then right to about the
square root of that. The conditions P x + q + Aᵀz = 0, A x + s = b with (s, z) the Moreau decomposition of w
are equations in (x, w), smooth near a regular solution, and the Newton step solves the system of
:mod:`ddn.conic.system`. (Ali, Wong and Kolter 2017; Busseti, Moursi and Boyd 2019, Solution refinement at
regular points of conic problems.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddn.conic.canonical import ConeProgram, Data
from ddn.conic.cones import Kind
from ddn.conic.moreau import decompose
from ddn.conic.pattern import Pattern
from ddn.conic.products import constraint_product, symmetric_product, transposed_product
from ddn.conic.system import ConeSystem, comparable_sizes

__all__ = ["decompose_rows", "polish"]

Array = NDArray[np.float64]

_FACTORIZATIONS = 4
_STEPS = 4
# Relative residual at which rounding takes over.
_ENOUGH = 1e-14


def polish(
    pattern: Pattern, data: Data, x: Array, z: Array, s: Array
) -> tuple[Array, Array, Array, Array]:
    """x, z, s nearer to the solution, ``(batch, ...)`` each, and their relative residuals, ``(batch,)``.

    Data and point are in the units of :mod:`ddn.conic.scaling`.
    s and z are exactly complementary members of the cones; the residual is that of the two equations.
    """
    # Steps that lead nowhere may overflow, and are not taken.
    with np.errstate(all="ignore"):
        program = pattern.program
        sizes = comparable_sizes(pattern, data, x, z, s)
        pair = decompose_rows(program, s / sizes[0] - z / sizes[1], s, sizes)
        best = (x.copy(), pair[1], pair[0])
        error = _error(program, data, *best)
        going = np.flatnonzero(np.isfinite(error) & (error > _ENOUGH))
        for _ in range(_FACTORIZATIONS):
            if not len(going):
                break
            part, part_sizes = data.of(going), (sizes[0][going], sizes[1][going])
            here = (best[0][going], best[1][going], best[2][going])
            before = error[going]
            system = ConeSystem(pattern, part, *here, part_sizes)
            # With the same matrix again: each step wins as many digits as the first, at next to no cost.
            for _ in range(_STEPS):
                moved = _step(system, part, *here, part_sizes)
                after = _error(program, part, *moved)
                better = after < error[going]
                won = after < error[going] / 10
                error[going] = np.where(better, after, error[going])
                keep = better[:, None]
                here = (
                    np.where(keep, moved[0], here[0]),
                    np.where(keep, moved[1], here[1]),
                    np.where(keep, moved[2], here[2]),
                )
                if not (won & (after > _ENOUGH)).any():
                    break
            for whole, new in zip(best, here, strict=True):
                whole[going] = new
            # Quadratic convergence is fast or not at all.
            going = going[(error[going] > _ENOUGH) & (error[going] < before / 10)]
        return *best, error


def _step(
    system: ConeSystem, data: Data, x: Array, z: Array, s: Array, sizes: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    program = system.pattern.program
    dual = -(
        symmetric_product(program, data.P, x) + data.q + transposed_product(program, data.A, z)
    )
    primal = data.b - constraint_product(program, data.A, x) - s
    dx, dz, _ = system.solve(dual[..., None], primal[..., None])
    dx, dz = dx[..., 0], dz[..., 0]
    ds = primal - constraint_product(program, data.A, dx)
    w = (s + ds) / sizes[0] - (z + dz) / sizes[1]
    s, z = decompose_rows(program, w, s, sizes)
    return x + dx, z, s


def decompose_rows(
    program: ConeProgram, w: Array, near: Array, sizes: tuple[Array, Array]
) -> tuple[Array, Array]:
    """s and z with s/σ − z/τ = w, complementary, for the sizes σ, τ; ``near`` is a point near s."""
    s, z = np.empty_like(w), np.empty_like(w)
    for block in program.cone.blocks():
        shape = (len(w), block.count, block.size)
        target, point = (part[:, block.rows].reshape(shape) for part in (w, near))
        ratio = np.zeros(shape[:-1])
        if block.kind is Kind.EXPONENTIAL:
            y = point[..., 1]
            ratio = point[..., 0] / np.where(y == 0, 1.0, y)
        pair = decompose(block, np.where(np.isfinite(target), target, 0.0), ratio)
        for whole, part in zip((s, z), pair, strict=True):
            whole[:, block.rows] = part.reshape(len(w), block.num_rows)
    s[~np.isfinite(w)] = np.nan
    return sizes[0] * s, sizes[1] * z


def _error(program: ConeProgram, data: Data, x: Array, z: Array, s: Array) -> Array:
    """Relative residual of the two equations, ``(batch,)``."""
    with np.errstate(invalid="ignore", over="ignore"):
        Px = symmetric_product(program, data.P, x)
        Ax, Az = constraint_product(program, data.A, x), transposed_product(program, data.A, z)
        errors = []
        for terms in ((Px, data.q, Az), (Ax, s, -data.b)):
            size = np.max([np.abs(term).max(-1, initial=1.0) for term in terms], 0)
            residual = np.abs(terms[0] + terms[1] + terms[2]).max(-1, initial=0.0)
            errors.append(residual / size)
        error = np.maximum(*errors)
    return np.where(np.isnan(error), np.inf, error)
