"""What a solver returns, polished and measured against the optimality conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddn.conic.canonical import ConeProgram, Data
from ddn.conic.pattern import Pattern
from ddn.conic.polish import decompose_rows, polish
from ddn.conic.products import constraint_product, symmetric_product, transposed_product
from ddn.conic.scaling import Scaling
from ddn.conic.solve import ConeSolution, ConeSolver
from ddn.conic.strictness import strictness
from ddn.conic.system import comparable_sizes
from ddn.solution import Status

__all__ = ["Verified", "solve_verified"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# A polished solution is right to rounding, or it is none.
_POLISHED = 1e-9
# Where Newton's method fails (at a kink, for instance), the solver's own accuracy must do.
_ACCEPTABLE = 1e-6
_CLAIMS = (Status.CONVERGED, Status.STALLED, Status.MAX_ITERATIONS)
_PROMISING = (Status.CONVERGED, Status.STALLED)
_WITHOUT = (Status.INFEASIBLE, Status.UNBOUNDED, Status.NOT_FINITE)
# A slack and its multiplier that are both below this, in units of their sizes.
_WEAK = 1.5e-8


@dataclass(frozen=True)
class Verified:
    """Solutions of a batch of cone programs, and how far they can be trusted.

    Attributes:
        solution: what was found; NaN for problems that are infeasible, unbounded or not finite.
        polished: where Newton's method converged: solution and derivative are right to rounding.
        weakly_active: where a constraint binds with a multiplier of zero: the derivative is one-sided.
    """

    solution: ConeSolution
    polished: Flags
    weakly_active: Flags


def solve_verified(pattern: Pattern, solver: ConeSolver, data: Data) -> Verified:
    """Solve the batch. CONVERGED are exactly those problems whose optimality conditions hold."""
    scaling = Scaling.of(pattern, data.where(data.finite))
    data = scaling.apply(pattern, data)
    found, error = _attempt(pattern, solver, data)
    rough = np.flatnonzero((error > _POLISHED) & _among(found.status, _PROMISING))
    finer = solver.finer() if len(rough) else None
    if finer is not None:
        again, after = _attempt(pattern, finer, data.of(rough))
        better = after < error[rough]
        error[rough[better]] = after[better]
        for name in ("x", "z", "s", "status"):
            getattr(found, name)[rough[better]] = getattr(again, name)[better]
        found.iterations[rough] += again.iterations
    without = _among(found.status, _WITHOUT)
    for vector in (found.x, found.z, found.s):
        vector[without] = np.nan
    sizes = comparable_sizes(pattern, data, found.x, found.z, found.s)
    strict = strictness(pattern, found.s / sizes[0], found.z / sizes[1])
    x, z, s = scaling.leave(found.x, found.z, found.s)
    solution = ConeSolution(x, z, s, found.status, found.iterations)
    return Verified(solution, error <= _POLISHED, strict <= _WEAK)


def _attempt(pattern: Pattern, solver: ConeSolver, data: Data) -> tuple[ConeSolution, Array]:
    """Solve and polish; the relative residual of what came out, infinite where there is no solution."""
    found = solver.solve(pattern.program, data)
    status = found.status.copy()
    x, z, s = found.x.copy(), found.z.copy(), found.s.copy()
    error = np.full(len(x), np.inf)
    chosen = np.flatnonzero(_among(status, _CLAIMS))
    if len(chosen):
        part = data.of(chosen)
        given = (x[chosen], z[chosen], s[chosen])
        *polished, after = polish(pattern, part, *given)
        if not (after <= _POLISHED).all():
            residual = _residual(pattern.program, part, *given)
            worse = (after > _POLISHED) & (after > residual)
            # Never below what counts as polished: that says more than a small residual does.
            after = np.where(worse, np.maximum(residual, 2 * _POLISHED), after)
            polished = [
                np.where(worse[:, None], old, new) for old, new in zip(given, polished, strict=True)
            ]
        for whole, new in zip((x, z, s), polished, strict=True):
            whole[chosen] = new
        claimed = status[chosen]
        failed = np.where(claimed == Status.CONVERGED, int(Status.STALLED), claimed)
        status[chosen] = np.where(after <= _ACCEPTABLE, int(Status.CONVERGED), failed)
        error[chosen] = after
    return ConeSolution(x, z, s, status, found.iterations.copy()), error


def _among(status: NDArray[np.int64], codes: tuple[Status, ...]) -> Flags:
    return np.asarray(np.logical_or.reduce([status == code for code in codes]))


def _residual(program: ConeProgram, data: Data, x: Array, z: Array, s: Array) -> Array:
    """Largest violation of any of the optimality conditions, each relative to its terms."""
    one = np.ones((len(x), 1))
    with np.errstate(all="ignore"):
        nearest_s, _ = decompose_rows(program, s, s, (one, one))
        _, nearest_z = decompose_rows(program, -z, s, (one, one))
        outside = np.maximum(_ratio(nearest_s - s, s), _ratio(nearest_z - z, z))
        Px = symmetric_product(program, data.P, x)
        Ax, Az = constraint_product(program, data.A, x), transposed_product(program, data.A, z)
        dual = _ratio(Px + data.q + Az, Px, data.q, Az)
        primal = _ratio(Ax + s - data.b, Ax, s, data.b)
        quadratic, linear, bound = (x * Px).sum(-1), (data.q * x).sum(-1), (data.b * z).sum(-1)
        terms = [part[:, None] for part in (quadratic, linear, bound)]
        gap = _ratio(sum(terms, np.zeros((len(x), 1))), *terms)
    residual = np.max([dual, primal, gap, outside], 0)
    return np.where(np.isnan(residual), np.inf, residual)


def _ratio(residual: Array, *terms: Array) -> Array:
    size = np.max([np.abs(term).max(-1, initial=1.0) for term in terms], 0)
    return np.asarray(np.abs(residual).max(-1, initial=0.0) / size)
