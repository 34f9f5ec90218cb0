"""Quadratic programs by PIQP, a proximal interior-point method in C++, on CPU."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from torch import Tensor

from ddn.errors import MissingDependencyError
from ddn.problem import Problem
from ddn.quadratic.scaled import ScaledProgram
from ddn.solution import SolverResult, WarmStart
from ddn.solvers.base import Solver
from ddn.solvers.interior_point import InteriorPoint
from ddn.solvers.one_by_one import Answer, Single, of_problem, solve_one_by_one

__all__ = ["PIQP", "import_piqp"]


@dataclass(frozen=True)
class PIQP:
    """Proximal interior-point method (Schwan, Jiang, Kuhn and Jones 2023) for convex quadratic programs,

        argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b,   G y ≤ h,   l ≤ y ≤ u,

    of nodes that state their matrices (``quadratic_program``). Q may be singular, or zero. Each problem is
    solved by itself, on CPU in float64, in units of its own data; matrices with few entries are factorized
    as sparse ones. A warm start is of no use to it. Problems that it does not solve go to another solver,
    whose word counts. Needs the package ``piqp``: ``pip install "ddn-torch[qp]"``.

    Attributes:
        max_iterations: of one problem.
        tolerance: of residuals and of the duality gap, relative to the size of the data.
        sparse_below: fraction of nonzero entries below which matrices count as sparse.
        workers: threads that share the problems of a batch.
        fallback: solves what is left.
    """

    max_iterations: int = 250
    tolerance: float = 1e-10
    sparse_below: float = 0.1
    workers: int = 1
    fallback: Solver = field(default_factory=InteriorPoint)

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives."""
        return solve_one_by_one(
            "PIQP", problem, operands, None, self._prepare, self.workers, self.fallback
        )

    def _prepare(self, program: ScaledProgram, start: np.ndarray | None) -> Single:
        piqp, data = import_piqp(), program.data
        p, n = data.num_equalities, data.num_variables
        hessian, linear = data.symmetric.numpy(), data.q.numpy()
        rows, right = _without_infinite_rows(data.rows.numpy(), data.right.numpy())
        sides = [bound.expand(program.size, -1).numpy() for bound in data.bounds]

        def single(index: int) -> Answer:
            matrices = [of_problem(hessian, index, 2), of_problem(rows, index, 2)]
            size = sum(matrix.size for matrix in matrices)
            sparse = sum(map(np.count_nonzero, matrices)) < self.sparse_below * size
            form = scipy.sparse.csc_matrix if sparse else np.asfortranarray
            solver = piqp.SparseSolver() if sparse else piqp.DenseSolver()
            self._configure(solver.settings)
            limit = of_problem(right, index, 1)
            bounds = {}
            if data.has_bounds:
                bounds = {"x_l": sides[0][index], "x_u": sides[1][index]}
            if p:
                bounds |= {"A": form(matrices[1][:p]), "b": limit[:p]}
            if data.num_inequalities:
                bounds |= {"G": form(matrices[1][p:]), "h_u": limit[p:]}
            solver.setup(form(matrices[0]), of_problem(linear, index, 1), **bounds)
            solved = solver.solve() == piqp.PIQP_SOLVED
            found = solver.result
            parts = [found.z_bu - found.z_bl] if data.has_bounds else []
            parts += [found.y] if p else []
            parts += [found.z_u] if data.num_inequalities else []
            multipliers = np.concatenate(parts) if parts else np.zeros(0)
            return found.x.reshape(n), multipliers, solved, found.info.iter

        return single

    def _configure(self, settings: Any) -> None:
        settings.max_iter = self.max_iterations
        settings.eps_abs = settings.eps_rel = self.tolerance
        settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = self.tolerance
        settings.check_duality_gap = True


def _without_infinite_rows(rows: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """0 ≤ 1 in place of rows that are no constraint, about which the package would print a text."""
    infinite = right == np.inf
    if not infinite.any():
        return rows, right
    return np.where(infinite[..., None], 0.0, rows), np.where(infinite, 1.0, right)


def import_piqp() -> Any:
    """The package, or an error that says how to install it."""
    try:
        return importlib.import_module("piqp")
    except ImportError as error:
        raise MissingDependencyError("piqp", "qp", "ddn.solvers.PIQP") from error
