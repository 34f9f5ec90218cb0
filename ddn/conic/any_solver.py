"""Any solver that CVXPY knows, for the cone programs of a node."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ddn.conic.canonical import ConeProgram, Data, import_cvxpy
from ddn.conic.cones import Block, Kind
from ddn.conic.solve import Clarabel, ConeSolution
from ddn.solution import Status

__all__ = ["AnySolver"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AnySolver:
    """A solver of CVXPY by its name, such as ``AnySolver("SCS")``, one problem after the other.

    Slower than :class:`ddn.conic.Clarabel`, since CVXPY rewrites every problem for the solver; for solvers
    that have something to offer which Clarabel has not. Whatever its accuracy, the solution is polished by
    Newton's method on the optimality conditions afterwards, as any other.

    Attributes:
        name: of the solver, installed and known to CVXPY.
        options: of ``cvxpy.Problem.solve``, as pairs, such as ``(("eps", 1e-6),)``.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def finer(self) -> Clarabel:
        """Clarabel: not every solver can be asked for more digits."""
        return Clarabel().finer()

    def solve(self, program: ConeProgram, data: Data) -> ConeSolution:
        """Solve the batch."""
        batch, n, m = len(data.q), program.num_variables, program.num_rows
        x, z, s = (np.full((batch, size), np.nan) for size in (n, m, m))
        status = np.full(batch, int(Status.NOT_FINITE))
        iterations = np.zeros(batch, np.int64)
        for element in range(batch):
            one = data.of(np.array([element]))
            if one.finite[0]:
                found = self._solve(program, one)
                x[element], z[element], s[element], status[element], iterations[element] = found
        return ConeSolution(x, z, s, status, iterations)

    def _solve(self, program: ConeProgram, data: Data) -> tuple[Array, Array, Array, int, int]:
        cvxpy = import_cvxpy()
        n, m = program.num_variables, program.num_rows
        A = sparse.csc_array((data.A[0], (program.A_rows, program.A_columns)), (m, n))
        x = cvxpy.Variable(n)
        slack = data.b[0] - A @ x
        objective = data.q[0] @ x
        if data.P.any():
            upper = sparse.csc_array((data.P[0], (program.P_rows, program.P_columns)), (n, n))
            full = upper + sparse.triu(upper, 1).T
            objective += cvxpy.quad_form(x, full, assume_PSD=True) / 2
        blocks = list(program.cone.blocks())
        constraints = [_constraint(cvxpy, block, slack[block.rows]) for block in blocks]
        flat = [one for several in constraints for one in several]
        problem = cvxpy.Problem(cvxpy.Minimize(objective), flat)
        nothing = (np.full(n, np.nan), np.full(m, np.nan), np.full(m, np.nan))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # that the solution may be inaccurate is checked here
                problem.solve(solver=self.name, **dict(self.options))
        except cvxpy.SolverError as error:
            if "not installed" in str(error):
                raise
            return *nothing, int(Status.STALLED), 0
        count = int(problem.solver_stats.num_iters or 0)
        status = _STATUS.get(problem.status, Status.STALLED)
        if x.value is None or any(c.dual_value is None for c in flat):
            return *nothing, int(status), count
        duals = [_dual(block, several) for block, several in zip(blocks, constraints, strict=True)]
        z = np.concatenate([np.zeros(0), *duals])
        return x.value, z, data.b[0] - A @ x.value, int(status), count


_STATUS = {
    "optimal": Status.CONVERGED,
    "optimal_inaccurate": Status.CONVERGED,
    "infeasible": Status.INFEASIBLE,
    "infeasible_inaccurate": Status.INFEASIBLE,
    "unbounded": Status.UNBOUNDED,
    "unbounded_inaccurate": Status.UNBOUNDED,
    "user_limit": Status.MAX_ITERATIONS,
}


def _constraint(cvxpy: Any, block: Block, slack: Any) -> list[Any]:
    """Constraints that say that the slacks of a block are in its cones."""
    if block.kind is Kind.ZERO:
        return [slack == 0]
    if block.kind is Kind.NONNEGATIVE:
        return [slack >= 0]
    parts = [slack[i * block.size : (i + 1) * block.size] for i in range(block.count)]
    if block.kind is Kind.SECOND_ORDER:
        return [cvxpy.SOC(part[0], part[1:]) for part in parts]
    if block.kind is Kind.SEMIDEFINITE:
        expand = _expansion(block.order)
        shape = (block.order, block.order)
        return [cvxpy.PSD(cvxpy.reshape(expand @ part, shape, order="C")) for part in parts]
    if block.kind is Kind.EXPONENTIAL:
        return [cvxpy.ExpCone(part[0], part[1], part[2]) for part in parts]
    return [
        cvxpy.PowConeND(part[:-1], part[-1], np.array(exponents))
        for part, exponents in zip(parts, block.exponents, strict=True)
    ]


def _dual(block: Block, constraints: list[Any]) -> Array:
    values = [constraint.dual_value for constraint in constraints]
    if block.kind is Kind.ZERO:
        return -np.asarray(values[0]).reshape(-1)
    if block.kind is Kind.NONNEGATIVE:
        return np.asarray(values[0]).reshape(-1)
    if block.kind is Kind.SEMIDEFINITE:
        expand = _expansion(block.order)
        return np.concatenate([expand.T @ value.reshape(-1) for value in values])
    flat = [np.asarray(part).reshape(-1) for value in values for part in value]
    return np.concatenate(flat)


def _expansion(order: int) -> Any:
    """The rows of a semidefinite cone ↦ the matrix, row by row."""
    column, row = np.tril_indices(order)  # of the upper triangle, column by column
    number = np.arange(len(row))
    weight = np.where(row == column, 0.5, np.sqrt(0.5))
    upper = sparse.csr_array((weight, (row * order + column, number)), (order**2, len(row)))
    lower = sparse.csr_array((weight, (column * order + row, number)), (order**2, len(row)))
    return upper + lower
