"""Quadratic programs by DAQP, a dual active-set method in C, on CPU."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ddn.errors import MissingDependencyError
from ddn.problem import Problem
from ddn.quadratic.scaled import ScaledProgram
from ddn.solution import SolverResult, WarmStart
from ddn.solvers.base import Solver
from ddn.solvers.interior_point import InteriorPoint
from ddn.solvers.one_by_one import Answer, Single, of_problem, solve_one_by_one

__all__ = ["DAQP", "import_daqp"]

# DAQP takes larger numbers for infinity.
_INFINITE = 1e30
_EQUALITY = 5
_OPTIMAL = 1


@dataclass(frozen=True)
class DAQP:
    """Dual active-set method (Arnström, Bemporad and Axehill 2022) for strictly convex quadratic programs,

        argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b,   G y ≤ h,   l ≤ y ≤ u,

    of nodes that state their matrices (``quadratic_program``). Each problem is solved by itself, on CPU in
    float64, in units of its own data. A warm start begins with the active set of the previous solution.

    Made for problems of up to some hundred variables: it works with dense matrices. Problems that it does not
    solve (infeasible or unbounded ones, and those whose Q is singular) go to another solver, whose word
    counts. Needs the package ``daqp``: ``pip install "ddn-torch[qp]"``.

    Attributes:
        max_iterations: changes of the active set of one problem.
        tolerance: violation of a constraint that counts as none, relative to the size of the data.
        workers: threads that share the problems of a batch.
        fallback: solves what is left.
    """

    max_iterations: int = 10_000
    tolerance: float = 1e-10
    workers: int = 1
    fallback: Solver = field(default_factory=InteriorPoint)

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives."""
        return solve_one_by_one(
            "DAQP", problem, operands, warm_start, self._prepare, self.workers, self.fallback
        )

    def _prepare(self, program: ScaledProgram, start: np.ndarray | None) -> Single:
        solve, data = import_daqp().solve, program.data
        hessian, linear, rows = data.symmetric.numpy(), data.q.numpy(), data.rows.numpy()
        below, above = (side.numpy().clip(-_INFINITE, _INFINITE) for side in program.sides())
        sense = (below == above).astype(np.intc) * _EQUALITY

        def single(index: int) -> Answer:
            keywords = {} if start is None else {"dual_start": start[index]}
            y, _, flag, info = solve(
                of_problem(hessian, index, 2),
                of_problem(linear, index, 1),
                of_problem(rows, index, 2),
                above[index],
                below[index],
                sense[index],
                primal_tol=self.tolerance,
                iter_limit=self.max_iterations,
                eps_prox=0.0,
                **keywords,
            )
            return y, info["lam"], flag == _OPTIMAL, info["iterations"]

        return single


def import_daqp() -> Any:
    """The package, or an error that says how to install it."""
    try:
        return importlib.import_module("daqp")
    except ImportError as error:
        raise MissingDependencyError("daqp", "qp", "ddn.solvers.DAQP") from error
