"""Solvers of cone programs: one batch of numbers in, primal and dual solutions out.

    argmin_x ½ xᵀP x + qᵀx   subject to   A x + s = b,  s ∈ K

has the optimality conditions  P x + q + Aᵀz = 0,  A x + s = b,  s ∈ K,  z ∈ K*,  ⟨s, z⟩ = 0.
"""

from __future__ import annotations

import importlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ddn.conic.canonical import ConeProgram, Data
from ddn.conic.cones import Kind
from ddn.solution import Status

__all__ = ["Clarabel", "ConeSolution", "ConeSolver"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ConeSolution:
    """What a solver of cone programs returns.

    Attributes:
        x: ``(batch, n)``.
        z: multipliers, ``(batch, m)``.
        s: slacks, ``(batch, m)``.
        status: integers of :class:`ddn.Status`, ``(batch,)``.
        iterations: ``(batch,)``.
    """

    x: Array
    z: Array
    s: Array
    status: NDArray[np.int64]
    iterations: NDArray[np.int64]


class ConeSolver(Protocol):
    """What :class:`ddn.CvxpyNode` asks of a solver.

    It sees numbers that have been scaled to the order of one, so that absolute tolerances are what they seem;
    what it returns is polished and verified afterwards.
    """

    def solve(self, program: ConeProgram, data: Data) -> ConeSolution:
        """Solve every problem of the batch; none may disturb another."""

    def finer(self) -> ConeSolver | None:
        """A more accurate solver, for problems that this one leaves too rough to be polished, if any."""


@dataclass(frozen=True)
class Clarabel:
    """Clarabel's interior-point method (Goulart and Chen 2024), called directly, problems in parallel.

    Attributes:
        tolerance: of the duality gap and of feasibility.
        max_iterations: of each problem.
        workers: threads that solve problems of a batch at the same time; None: as many as there are
            processors.
        settings: further settings of Clarabel by name, as pairs, such as
            ``(("equilibrate_max_iter", 20),)``.
    """

    tolerance: float = 1e-8
    max_iterations: int = 200
    workers: int | None = None
    settings: tuple[tuple[str, Any], ...] = ()

    def finer(self) -> Clarabel:
        """With as small a tolerance as double precision allows."""
        return replace(self, tolerance=min(self.tolerance, 1e-11))

    def solve(self, program: ConeProgram, data: Data) -> ConeSolution:
        """Solve the batch."""
        batch, n, m = len(data.q), program.num_variables, program.num_rows
        x, z, s = (np.full((batch, size), np.nan) for size in (n, m, m))
        status = np.full(batch, int(Status.NOT_FINITE))
        iterations = np.zeros(batch, np.int64)
        run = _Run(program, data, self)

        def solve(element: int) -> None:
            x[element], z[element], s[element], status[element], iterations[element] = run(element)

        elements = np.flatnonzero(data.finite).tolist()
        workers = min(self.workers or _processors(), len(elements))
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(solve, elements))
        else:
            for element in elements:
                solve(element)
        return ConeSolution(x, z, s, status, iterations)


def _processors() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class _Run:
    """Solves one element of a batch after the other; what they share is made once."""

    def __init__(self, program: ConeProgram, data: Data, options: Clarabel) -> None:
        self.clarabel = importlib.import_module("clarabel")
        self.data = data
        n, m = program.num_variables, program.num_rows
        self.P_shape, self.A_shape = (n, n), (m, n)
        self.P_pointers = _pointers(program.P_columns, n)
        self.A_pointers = _pointers(program.A_columns, n)
        self.P_rows, self.A_rows = program.P_rows, program.A_rows
        self.cones = self._cones(program)
        self.settings = self.clarabel.DefaultSettings()
        self.settings.verbose = False
        self.settings.max_iter = options.max_iterations
        # Rows with an infinite right side are not dropped, so that z has all rows.
        self.settings.presolve_enable = False
        self.settings.max_threads = 1
        for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
            setattr(self.settings, name, options.tolerance)
        for name, value in options.settings:
            setattr(self.settings, name, value)

    def __call__(self, element: int) -> tuple[Array, Array, Array, int, int]:
        data = self.data
        P, q, A, b = data.P[element], data.q[element], data.A[element], data.b[element]
        solver = self.clarabel.DefaultSolver(
            sparse.csc_array((P, self.P_rows, self.P_pointers), self.P_shape),
            q,
            sparse.csc_array((A, self.A_rows, self.A_pointers), self.A_shape),
            b,
            self.cones,
            self.settings,
        )
        found = solver.solve()
        return (
            np.array(found.x),
            np.array(found.z),
            np.array(found.s),
            int(_STATUS.get(str(found.status), Status.STALLED)),
            int(found.iterations),
        )

    def _cones(self, program: ConeProgram) -> list[Any]:
        clarabel, cones = self.clarabel, []
        for block in program.cone.blocks():
            if block.kind is Kind.ZERO:
                cones.append(clarabel.ZeroConeT(block.count))
            elif block.kind is Kind.NONNEGATIVE:
                cones.append(clarabel.NonnegativeConeT(block.count))
            elif block.kind is Kind.SECOND_ORDER:
                cones += [clarabel.SecondOrderConeT(block.size)] * block.count
            elif block.kind is Kind.SEMIDEFINITE:
                cones += [clarabel.PSDTriangleConeT(block.order)] * block.count
            elif block.kind is Kind.EXPONENTIAL:
                cones += [clarabel.ExponentialConeT()] * block.count
            else:
                for exponents in block.exponents:
                    if len(exponents) == 2:
                        cones.append(clarabel.PowerConeT(exponents[0]))
                    else:
                        cones.append(clarabel.GenPowerConeT(list(exponents), 1))
        return cones


def _pointers(columns: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=count))])


_STATUS = {
    "Solved": Status.CONVERGED,
    "AlmostSolved": Status.CONVERGED,
    "PrimalInfeasible": Status.INFEASIBLE,
    "AlmostPrimalInfeasible": Status.INFEASIBLE,
    "DualInfeasible": Status.UNBOUNDED,
    "AlmostDualInfeasible": Status.UNBOUNDED,
    "MaxIterations": Status.MAX_ITERATIONS,
    "MaxTime": Status.MAX_ITERATIONS,
}
