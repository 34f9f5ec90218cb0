"""Quadratic programs in the interior-point method: steps without automatic differentiation.

Problems that this does not solve (they are unbounded, not convex, or too badly conditioned for Cholesky
factorizations) are left to the general iterations, which tell these cases apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddn.problem import Problem
from ddn.quadratic.active_set import is_semidefinite
from ddn.quadratic.feasibility import are_infeasible
from ddn.quadratic.finish import resumed
from ddn.quadratic.mehrotra import predictor_corrector
from ddn.quadratic.point import QuadraticPoint, generic_start
from ddn.quadratic.scaled import ScaledProgram
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.barrier.memory import Limits

__all__ = ["solve_quadratic"]

# Power of ε at which the active set is tried first.
_NEAR = 0.3


def solve_quadratic(
    problem: Problem,
    flat: Sequence[Tensor],
    size: int,
    limits: Limits,
    warm_start: WarmStart | None,
) -> SolverResult:
    """Solve what can be solved as a convex quadratic program, or shown to be infeasible.

    The rest has status MAX_ITERATIONS.

    Args:
        problem: one that states its matrices.
        flat: operands with one batch dimension or none.
        size: number of problems.
        limits: of the iterations.
        warm_start: solutions of similar problems, or None.

    Returns:
        y ``(size, n)`` and the rest likewise.
    """
    balanced = problem.balanced(flat)
    data = balanced.data
    status = torch.full((size,), int(Status.MAX_ITERATIONS), device=data.q.device)
    iterations = torch.zeros_like(status)
    y = data.q.new_zeros(size, data.num_variables)
    rows = data.num_equalities + data.num_inequalities
    multipliers = y.new_zeros(size, rows + (2 * y.shape[-1] if data.has_bounds else 0))
    left = torch.arange(size, device=status.device)
    if warm_start is not None and warm_start.multipliers is not None:
        given = QuadraticPoint.of(
            data,
            *balanced.to_balanced(
                warm_start.y.double().reshape(y.shape),
                warm_start.multipliers.double().reshape(multipliers.shape),
            ),
        )
        point, solved, iterations = resumed(given, generic_start(y))
        solved = solved & warm_start.known.reshape(-1)
        y, multipliers = point.y.clone(), point.multipliers.clone()
        status[solved] = int(Status.CONVERGED)
        left = (~solved).nonzero().squeeze(-1)
    # Near the solution, its active set shows, and the solution on that is exact: there the iterations end.
    for tolerance in (torch.finfo(y.dtype).eps ** _NEAR, limits.tolerance):
        if not len(left):
            break
        part = data if len(left) == size else data.select(left)
        program = ScaledProgram.of(part, len(left))
        found, scaled, error, count = predictor_corrector(program, limits.max_iterations, tolerance)
        near = QuadraticPoint.of(part, *program.one_sided(found, scaled))
        point, solved, rounds = resumed(near, generic_start(y))
        accepted = (error <= limits.acceptable) & is_semidefinite(part.symmetric)
        accepted = accepted | solved
        point = point.where(solved, near)
        y[left], multipliers[left] = point.y, point.multipliers
        status[left[accepted]] = int(Status.CONVERGED)
        iterations[left] += count + rounds
        left = left[~accepted]
    if len(left):
        status[left[are_infeasible(data.select(left), len(left))]] = int(Status.INFEASIBLE)
    y, multipliers = (t.to(flat[0]) for t in balanced.to_original(y, multipliers))
    return SolverResult(y, multipliers, status, iterations)
