"""A warm start of the interior-point method: are the same inequalities active as before?

The solution of another problem is a bad start for an interior-point method, which would have to leave the
boundary first. What it is good for is its active set: if that is (nearly) the one of this problem, Newton's
method on it finds the solution in a step or two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.solution import Status, WarmStart
from ddn.solvers.barrier.finish import likely_active, solve_active_set
from ddn.solvers.barrier.iterate import Iterate, Sizes
from ddn.solvers.barrier.memory import Limits, Outcome
from ddn.solvers.barrier.program import Program
from ddn.solvers.barrier.start import Start

__all__ = ["resume"]


def resume(
    program: Program, start: Start, warm_start: WarmStart, limits: Limits
) -> tuple[Outcome, Tensor]:
    """Solve what the active set of a warm start solves.

    Args:
        program: the problems.
        start: the first iterates of a cold start.
        warm_start: solutions of similar problems, with multipliers.
        limits: when a problem counts as solved.

    Returns:
        An outcome, and the positions of the problems that are still to be solved.
    """
    assert warm_start.multipliers is not None
    q = program.exists.shape[-1]
    y = warm_start.y.reshape(start.point.y.shape)
    multipliers = warm_start.multipliers.reshape(len(y), -1)
    p = multipliers.shape[-1] - q
    values, first = program.evaluate(y)
    point = Iterate(
        y,
        torch.where(program.exists, (-values.inequality).clamp_min(0), 1),
        multipliers[:, :p],
        torch.where(program.exists, multipliers[:, p:], 0),
        values,
        first,
    )
    hessian = program.hessian(y, point.equality, point.inequality)
    usable = warm_start.known.reshape(-1) & start.finite & values.is_finite() & first.is_finite()
    usable = usable & hessian.isfinite().flatten(1).all(-1)
    status = torch.full_like(start.extent, int(Status.MAX_ITERATIONS), dtype=torch.int64)
    outcome = Outcome(start.point, status, torch.zeros_like(status))
    index = usable.nonzero().squeeze(-1)
    if len(index):
        program, point, hessian = program.select(index), point.select(index), hessian[index]
        extent, floor = start.extent[index], start.floor[index]
        sizes = Sizes.at(point, hessian, extent, floor)
        active = likely_active(point, sizes, program.exists)
        found, solved, steps = solve_active_set(
            program, point, active, sizes, extent, floor, limits.tolerance
        )
        outcome.iterations[index] = steps
        outcome.point = outcome.point.put(index[solved], found.select(solved))
        status[index[solved]] = int(Status.CONVERGED)
    return outcome, (status != Status.CONVERGED).nonzero().squeeze(-1)
