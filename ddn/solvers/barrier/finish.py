"""From a point near the solution to the solution itself: Newton's method on the active set.

An interior point is only near: inequalities have slacks and multipliers of both kinds. Once it tells which
of them are active, the conditions of the active set are plain equations,

    ∇f + Aᵀλ + G_aᵀν_a = 0,    h = 0,    g_a = 0,

and Newton's method solves them to rounding, with ν_i exactly zero elsewhere. What it finds is taken only
if it satisfies all optimality conditions of the problem. Redundant and degenerate rows do no harm: steps
are those of minimum norm.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ddn.kkt.dense import assemble
from ddn.kkt.reduced import ReducedSystem
from ddn.linear_solve import SymmetricSystem, equilibrate, factorize
from ddn.optimality import largest, relative_to
from ddn.solvers.barrier.iterate import Direction, Iterate, Sizes
from ddn.solvers.barrier.program import Program

__all__ = ["active_rows", "likely_active", "solve_active_set"]

_MAX_STEPS, _MAX_ROUNDS = 5, 4
# A first step longer than this fraction of y leaves the neighbourhood in which the active set was read.
_LONGEST_STEP = 0.3


def active_rows(point: Iterate, predictor: Direction, exists: Tensor) -> Tensor:
    """Rows whose slack is about to vanish, rather than their multiplier, ``(batch, q)``.

    A Newton step towards ν_i s_i = 0 takes either s_i or ν_i most of the way to zero, whatever the size of
    the two (El-Bakry, Tapia and Zhang 1994).
    """
    slack = (point.slack + predictor.slack).abs() / point.slack
    multiplier = (point.inequality + predictor.inequality).abs() / _positive(point.inequality)
    return exists & (multiplier > slack)


def likely_active(point: Iterate, sizes: Sizes, exists: Tensor) -> Tensor:
    """Rows whose multiplier is larger than their slack, both relative, ``(batch, q)``."""
    multiplier = point.inequality * sizes.rows / sizes.force.unsqueeze(-1)
    return exists & (multiplier > relative_to(point.slack, sizes.rows * sizes.length.unsqueeze(-1)))


def solve_active_set(
    program: Program,
    point: Iterate,
    active: Tensor,
    sizes: Sizes,
    extent: Tensor,
    floor: Tensor,
    tolerance: float,
) -> tuple[Iterate, Tensor, Tensor]:
    """The solution near a point, with slack max(−g, 0), where one was found, and the number of steps.

    An active set that gives a negative multiplier loses that row, one that leaves another row violated
    gains it, a few times.

    Args:
        program: the problems.
        point: the point.
        active: the active set to begin with, ``(batch, q)``.
        sizes: at the point.
        extent: see :meth:`ddn.solvers.barrier.iterate.Sizes.at`.
        floor: likewise.
        tolerance: relative error at which a problem counts as solved.
    """
    active = active.clone()
    best, found = point, torch.zeros_like(floor, dtype=torch.bool)
    pending = torch.arange(len(floor), device=floor.device)
    steps = torch.zeros_like(pending)
    for _ in range(_MAX_ROUNDS):
        selected = [part[pending] for part in (active, extent, floor)]
        trial, solved, repaired, count = _newton(
            program.select(pending),
            point.select(pending),
            sizes.select(pending),
            selected[0],
            selected[1],
            selected[2],
            tolerance,
        )
        steps[pending] += count
        best = best.put(pending[solved], trial.select(solved))
        found[pending[solved]] = True
        changed = ~solved & (repaired != selected[0]).any(-1)
        active[pending] = repaired
        pending = pending[changed]
        if len(pending) == 0:
            break
    return best, found, steps


def _newton(
    program: Program,
    start: Iterate,
    sizes: Sizes,
    active: Tensor,
    extent: Tensor,
    floor: Tensor,
    tolerance: float,
) -> tuple[Iterate, Tensor, Tensor, int]:
    """Newton's method with one active set: the point, whether it is a solution, a better set, and steps."""
    eps = torch.finfo(floor.dtype).eps
    point = replace(start, inequality=torch.where(active, start.inequality, 0))
    best, best_error = point, torch.full_like(floor, torch.inf)
    usable = torch.ones_like(floor, dtype=torch.bool)
    for count in range(_MAX_STEPS):
        hessian = program.hessian(point.y, point.equality, point.inequality)
        step_y, step_rows, minimum = _newton_step(point, hessian, active)
        length = largest(step_y)
        usable = usable & minimum & (length <= _LONGEST_STEP * sizes.length)
        p = point.equality.shape[-1]
        y = program.snap(point.y + step_y, active)
        values, first = program.evaluate(y)
        point = Iterate(
            y,
            torch.where(program.exists, (-values.inequality).clamp_min(0), 1),
            point.equality + step_rows[:, :p],
            point.inequality + step_rows[:, p:],
            values,
            first,
        )
        error = _conditions(point, hessian, active, extent, floor)
        short = length <= eps ** (3 / 8) * sizes.length
        better = usable & short & (error < best_error)
        best = point.where(better, best)
        improving = usable & ~(error > best_error / 2) & (error > 4 * eps) | (usable & ~short)
        best_error = torch.where(better, error, best_error)
        if count > 0 and not bool(improving.any()):
            break
    sizes = Sizes.at(best, hessian, extent, floor)
    negative = _relative_multiplier(best, sizes) < -tolerance
    violated = relative_to(best.values.inequality.clamp_min(0), sizes.inequality) > tolerance
    wrong = (negative | violated & program.exists).any(-1)
    solved = (best_error <= tolerance) & ~wrong
    best = replace(best, inequality=best.inequality.clamp_min(0))
    return (
        best,
        solved,
        torch.where(
            best_error.isfinite().unsqueeze(-1),
            (active & ~negative) | violated & program.exists,
            active,
        ),
        count + 1,
    )


def _newton_step(point: Iterate, hessian: Tensor, active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The step of y, that of all multipliers, and whether H has no negative curvature on the active set."""
    jacobian = torch.cat([point.first.equality, point.first.inequality.dense()], -2)
    kept = torch.cat([torch.ones_like(point.equality, dtype=torch.bool), active], -1)
    rows = torch.cat([point.values.equality, point.values.inequality], -1)
    jacobian = torch.where(kept.unsqueeze(-1), jacobian, 0)
    hessian = point.first.pinned(hessian)
    reduced = ReducedSystem.of(hessian, jacobian, (~kept).to(hessian.dtype))
    matrix = assemble(reduced.hessian, reduced.jacobian, reduced.padding.to(hessian.dtype))
    m, k = reduced.jacobian.shape[-1], reduced.jacobian.shape[-2]
    stationarity = point.first.gradient + point.first.pull_back(
        point.equality, torch.where(active, point.inequality, 0)
    )
    right_y, right_rows = -stationarity, torch.where(kept, -rows, 0)
    first, second = reduced.reduce_right_side(right_y, right_rows)
    system = SymmetricSystem(matrix, m)
    solution, _ = system.solve(torch.cat([first, second], -1).unsqueeze(-1))
    solution = solution.squeeze(-1)
    change = reduced.expand_solution(solution[:, :m], solution[:, m:], right_rows)
    return solution[:, :m], change, _count_negative(matrix, m) <= k


def _count_negative(matrix: Tensor, m: int) -> Tensor:
    finite = matrix.isfinite().flatten(1).all(-1)
    matrix = torch.where(finite[:, None, None], matrix, 0)
    scale = equilibrate(matrix, m)
    blocks = factorize(matrix * scale.unsqueeze(-1) * scale.unsqueeze(-2)).block_eigenvalues()
    if blocks.shape[-1] == 0:
        return blocks.new_zeros(len(blocks))
    threshold = 10 * blocks.shape[-1] * torch.finfo(blocks.dtype).eps
    return (blocks < -threshold * blocks.abs().amax(-1, keepdim=True)).sum(-1)


def _conditions(
    point: Iterate, hessian: Tensor, active: Tensor, extent: Tensor, floor: Tensor
) -> Tensor:
    """Relative residual of the equations of the active set, ``(batch,)``."""
    sizes = Sizes.at(point, hessian, extent, floor)
    h = largest(relative_to(point.values.equality.abs(), sizes.equality))
    g = torch.where(active, point.values.inequality.abs(), 0)
    g = largest(relative_to(g, sizes.inequality))
    return torch.stack([sizes.stationarity(point), h, g]).amax(0)


def _relative_multiplier(point: Iterate, sizes: Sizes) -> Tensor:
    return point.inequality * sizes.rows / sizes.force.unsqueeze(-1)


def _positive(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, 1)
