"""Quadratic programs by DAQP, a dual active-set method in C, on CPU."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddn.errors import MissingDependencyError, SignatureError
from ddn.problem import Problem
from ddn.quadratic.scaled import ScaledProgram
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.base import Solver
from ddn.solvers.interior_point import InteriorPoint

__all__ = ["DAQP", "import_daqp"]

# DAQP takes larger numbers for infinity.
_INFINITE = 1e30
_EQUALITY = 5
_OPTIMAL = 1


@dataclass(frozen=True)
class DAQP:
    """Dual active-set method (Arnström, Bemporad and Axehill 2022) for convex quadratic programs,

        argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b,   G y ≤ h,   l ≤ y ≤ u,

    of nodes that state their matrices (``quadratic_program``). Each problem is solved by itself, on CPU in
    float64, in units of its own data. A warm start begins with the active set of the previous solution.

    Made for problems of up to some hundred variables: it works with dense matrices. Problems that it does not
    solve (infeasible, unbounded or not convex ones, or linear ones, whose solution is a limit for it) go to
    another solver, whose word counts. Needs the package ``daqp``.

    Attributes:
        max_iterations: changes of the active set of one problem.
        tolerance: violation of a constraint that counts as none, relative.
        workers: threads; problems are shared out among them if there are enough of them.
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
        if not problem.is_quadratic:
            raise SignatureError(
                f"{type(problem.node).__name__} does not state the matrices of a quadratic program, which "
                "DAQP needs: define `quadratic_program`, use ddn.nodes.QuadraticProgram, or another solver."
            )
        daqp = import_daqp()
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch(operands)
        data = problem.quadratic_program(flat).map(lambda value: value.detach().cpu().double())
        program = ScaledProgram.of(data, batch.numel())
        run = _Run(daqp, self, program, _dual_start(program, warm_start))
        results = run.all()
        y = torch.from_numpy(np.stack([result[0] for result in results]))
        multipliers = torch.from_numpy(np.stack([result[1] for result in results]))
        solved = torch.tensor([result[2] for result in results])
        iterations = torch.tensor([result[3] for result in results])
        like = operands[0]
        y, multipliers = (t.to(like) for t in program.restored(y, multipliers))
        status = torch.where(solved, int(Status.CONVERGED), int(Status.MAX_ITERATIONS))
        status, iterations = status.to(like.device), iterations.to(like.device)
        left = (status != Status.CONVERGED).nonzero().squeeze(-1)
        if len(left):
            other = self.fallback.solve(problem, problem.select(flat, left))
            assert other.multipliers is not None
            y[left], multipliers[left], status[left] = other.y, other.multipliers, other.status
            iterations[left] += other.iterations
        return SolverResult(
            y.reshape(*batch, -1),
            multipliers.reshape(*batch, -1),
            status.reshape(batch),
            iterations.reshape(batch),
        )


def _dual_start(program: ScaledProgram, warm_start: WarmStart | None) -> np.ndarray | None:
    """Multipliers of bounds, then of rows: what is positive is active at the upper side."""
    if warm_start is None or warm_start.multipliers is None:
        return None
    multipliers = warm_start.multipliers.detach().cpu().double()
    return program.two_sided(multipliers.reshape(-1, multipliers.shape[-1])).numpy()


class _Run:
    """Arrays of the whole batch, and the loop over its problems."""

    def __init__(
        self, daqp: Any, options: DAQP, program: ScaledProgram, start: np.ndarray | None
    ) -> None:
        self._solve, self._options, self._start = daqp.solve, options, start
        self._size = program.size
        self._usable = program.finite.tolist()
        data = program.data
        self._hessian, self._linear = data.symmetric.numpy(), data.q.numpy()
        self._rows = data.rows.numpy()
        lower, upper = program.sides()
        self._lower = lower.clamp(-_INFINITE, _INFINITE).numpy()
        self._upper = upper.clamp(-_INFINITE, _INFINITE).numpy()
        self._sense = ((lower == upper) * _EQUALITY).int().numpy()

    def all(self) -> list[tuple[np.ndarray, np.ndarray, bool, int]]:
        """Every problem: ŷ, multipliers of bounds and rows, whether it was solved, and iterations."""
        workers = min(self._options.workers, self._size)
        if workers <= 1:
            return self.some(range(self._size))
        parts = [range(first, self._size, workers) for first in range(workers)]
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(self.some, parts))
        return [found[index % workers][index // workers] for index in range(self._size)]

    def some(self, indices: range) -> list[tuple[np.ndarray, np.ndarray, bool, int]]:
        """Some of the problems."""
        return [self._one(index) for index in indices]

    def _one(self, index: int) -> tuple[np.ndarray, np.ndarray, bool, int]:
        linear, upper = _of(self._linear, index, 1), _of(self._upper, index, 1)
        if not self._usable[index]:
            nothing = np.full(linear.shape, np.nan), np.full(upper.shape, np.nan)
            return (*nothing, False, 0)
        keywords = {} if self._start is None else {"dual_start": self._start[index]}
        y, _, flag, info = self._solve(
            _of(self._hessian, index, 2),
            linear,
            _of(self._rows, index, 2),
            upper,
            _of(self._lower, index, 1),
            _of(self._sense, index, 1),
            primal_tol=self._options.tolerance,
            iter_limit=self._options.max_iterations,
            eps_prox=0.0,
            **keywords,
        )
        return y, info["lam"], flag == _OPTIMAL, info["iterations"]


def _of(array: np.ndarray, index: int, rank: int) -> np.ndarray:
    """What belongs to one problem, where there may be one batch dimension."""
    single: np.ndarray = array[index] if array.ndim > rank else array
    return single


def import_daqp() -> Any:
    """The package, or an error that says how to install it."""
    try:
        return importlib.import_module("daqp")
    except ImportError as error:
        raise MissingDependencyError("daqp", "qp", "ddn.solvers.DAQP") from error
