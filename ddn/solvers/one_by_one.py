"""Quadratic programs one after the other, by compiled solvers on CPU that see one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.problem import Problem
from ddn.quadratic.active_set import is_semidefinite
from ddn.quadratic.scaled import ScaledProgram
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.base import Solver

__all__ = ["Answer", "Single", "of_problem", "solve_one_by_one"]

Answer = tuple[np.ndarray, np.ndarray, bool, int]
"""ŷ, one multiplier for each pair of sides (positive at the upper one), whether solved, iterations."""

Single = Callable[[int], Answer]
"""Solves the scaled problem at a position of the batch."""


def solve_one_by_one(
    name: str,
    problem: Problem,
    operands: Sequence[Tensor],
    warm_start: WarmStart | None,
    prepare: Callable[[ScaledProgram, np.ndarray | None], Single],
    workers: int,
    fallback: Solver,
) -> SolverResult:
    """Solve a batch of quadratic programs, in float64 and in units of their data.

    Args:
        name: of the solver, for messages.
        problem: one that states its matrices.
        operands: inputs and captured tensors.
        warm_start: solutions of similar problems, or None.
        prepare: makes, from the scaled programs and the multipliers of a warm start, what solves one of them.
        workers: threads.
        fallback: solves what is left.

    Raises:
        SignatureError: the node does not state the matrices of a quadratic program.
    """
    if not problem.is_quadratic:
        raise SignatureError(
            f"{type(problem.node).__name__} does not state the matrices of a quadratic program, which {name} "
            "needs: define `quadratic_program`, use ddn.nodes.QuadraticProgram, or another solver."
        )
    batch = problem.batch_shape(operands)
    balanced = problem.balanced(operands)
    data = balanced.data
    if data.q.dtype != torch.float64 or data.q.device.type != "cpu":
        data = data.map(lambda value: value.detach().cpu().double())
    program = ScaledProgram.of(data, batch.numel(), only_if_needed=True)
    answers = _all(program, prepare(program, _dual_start(program, warm_start)), workers)
    y, multipliers = (
        torch.from_numpy(np.stack(parts))
        for parts in ([answer[0] for answer in answers], [answer[1] for answer in answers])
    )
    # A stationary point of a program that is not convex may be anything.
    solved = torch.tensor([answer[2] for answer in answers]) & is_semidefinite(data.symmetric)
    iterations = torch.tensor([answer[3] for answer in answers])
    like = operands[0]
    y, multipliers = (t.to(balanced.data.q.device) for t in program.restored(y, multipliers))
    y, multipliers = (t.to(like) for t in balanced.to_original(y, multipliers))
    status = torch.where(solved, int(Status.CONVERGED), int(Status.MAX_ITERATIONS))
    status, iterations = status.to(like.device), iterations.to(like.device)
    if not bool(solved.all()):
        left = (status != Status.CONVERGED).nonzero().squeeze(-1)
        flat = problem.flatten_batch(operands)
        other = fallback.solve(problem, problem.select(flat, left))
        assert other.multipliers is not None
        y[left] = other.y.expand(len(left), -1)
        multipliers[left] = other.multipliers.expand(len(left), -1)
        status[left], iterations[left] = other.status, iterations[left] + other.iterations
    return SolverResult(
        y.reshape(*batch, -1),
        multipliers.reshape(*batch, multipliers.shape[-1]),
        status.reshape(batch),
        iterations.reshape(batch),
    )


def _all(program: ScaledProgram, single: Single, workers: int) -> list[Answer]:
    usable = program.finite.tolist()
    n = program.data.num_variables
    pairs = program.data.rows.shape[-2] + (n if program.data.has_bounds else 0)
    nothing = np.full(n, np.nan), np.full(pairs, np.nan), False, 0

    def some(indices: range) -> list[Answer]:
        return [single(index) if usable[index] else nothing for index in indices]

    workers = min(workers, program.size)
    if workers <= 1:
        return some(range(program.size))
    parts = [range(first, program.size, workers) for first in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(some, parts))
    return [found[index % workers][index // workers] for index in range(program.size)]


def _dual_start(program: ScaledProgram, warm_start: WarmStart | None) -> np.ndarray | None:
    if warm_start is None or warm_start.multipliers is None:
        return None
    multipliers = warm_start.multipliers.detach().cpu().double()
    start: np.ndarray = program.two_sided(
        multipliers.reshape(program.size, multipliers.shape[-1])
    ).numpy()
    return start


def of_problem(array: np.ndarray, index: int, rank: int) -> np.ndarray:
    """What belongs to one problem, of an array with one batch dimension or none."""
    single: np.ndarray = array[index] if array.ndim > rank else array
    return single
