"""Line search on the ℓ1 merit function of the barrier problem.

    φ(y, s) = f − κ Σ log s_i + Σ ρ_i |h_i| + Σ ρ_i |g_i + s_i|          (Nocedal and Wright 2006, eq. 19.26)

with one weight per row, ρ_i at least twice its multiplier: φ does not depend on the units of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.multipliers import least_squares_multipliers
from ddn.solvers.barrier.batched import Batched
from ddn.solvers.barrier.iterate import Direction, Iterate, Sizes, StepSystem
from ddn.solvers.barrier.program import Program, Values

__all__ = ["Merit", "advance", "line_search"]

_ARMIJO = 1e-4
_MAX_TRIALS = 32
# Rows without a multiplier have a weight, too: this fraction of the size of the multipliers.
_LEAST_WEIGHT = 1e-2
# ν_i s_i / κ stays between 1/_WIDTH and _WIDTH (Wächter and Biegler 2006, eq. 16).
_WIDTH = 1e10


@dataclass(frozen=True)
class Merit(Batched):
    """φ and its slope along a step.

    Attributes:
        target: κ, ``(batch,)``.
        equality: ρ of the rows of h, ``(batch, p)``.
        inequality: ρ of the rows of g, zero where there is no row, ``(batch, q)``.
        slope: ``(batch,)``.
    """

    target: Tensor
    equality: Tensor
    inequality: Tensor
    slope: Tensor

    @classmethod
    def along(
        cls, point: Iterate, direction: Direction, target: Tensor, sizes: Sizes, exists: Tensor
    ) -> Merit:
        """Choose the weights so that a step to the linearized constraints leads downhill."""
        descent = (point.first.gradient * direction.y).sum(-1)
        descent = descent - target * (direction.slack / point.slack).sum(-1)
        least = _LEAST_WEIGHT * sizes.work.unsqueeze(-1)
        equality = 2 * (point.equality + direction.equality).abs()
        inequality = 2 * (point.inequality + direction.inequality).abs()
        equality = torch.maximum(equality, _divided(least, sizes.equality))
        inequality = torch.maximum(inequality, _divided(least, sizes.inequality))
        inequality = torch.where(exists, inequality, 0)
        result = cls(target, equality, inequality, torch.zeros_like(descent))
        violation = result.violation(point.values, point.slack)
        factor = torch.where(
            violation > 0, 2 * descent / torch.where(violation > 0, violation, 1), 0
        )
        factor = factor.clamp_min(1)
        return cls(
            target,
            factor.unsqueeze(-1) * equality,
            factor.unsqueeze(-1) * inequality,
            descent - factor * violation,
        )

    def violation(self, values: Values, slack: Tensor) -> Tensor:
        """Σ ρ_i ‖h_i‖ + Σ ρ_i ‖g_i + s_i‖, ``(batch,)``."""
        gap = (self.inequality * (values.inequality + slack).abs()).sum(-1)
        return gap + (self.equality * values.equality.abs()).sum(-1)

    def value(self, values: Values, slack: Tensor) -> Tensor:
        """φ, ``(batch,)``; NaN or infinite outside the domain."""
        barrier = self.target * slack.log().sum(-1)
        return values.objective - barrier + self.violation(values, slack)

    def rounding(self, values: Values, slack: Tensor) -> Tensor:
        """How far φ may be off by rounding, ``(batch,)``."""
        terms = values.objective.abs() + self.target * slack.log().abs().sum(-1)
        return 10 * torch.finfo(slack.dtype).eps * (terms + self.violation(values, slack))


def _divided(value: Tensor, size: Tensor) -> Tensor:
    return torch.where(size > 0, value / torch.where(size > 0, size, 1), 0)


def advance(point: Iterate, step: Direction, program: Program) -> tuple[Iterate, Tensor]:
    """The point after a step, and where everything is finite there, ``(batch,)``."""
    y = point.y + step.y
    values, first = program.evaluate(y)
    moved = Iterate(
        y,
        point.slack + step.slack,
        point.equality + step.equality,
        point.inequality + step.inequality,
        values,
        first,
    )
    return moved, values.is_finite() & first.is_finite()


def line_search(
    program: Program,
    system: StepSystem,
    point: Iterate,
    target: Tensor,
    sizes: Sizes,
    fraction: Tensor,
) -> tuple[Iterate, Tensor]:
    """A point with a smaller merit function, and where one was found.

    A first trial that fails is tried again after a step back to the constraints (second-order correction,
    Nocedal and Wright 2006, section 18.3): on curved constraints long steps would fail without.

    Args:
        program: the problems.
        system: factorized at the point.
        point: where to start.
        target: κ, ``(batch,)``.
        sizes: at the point.
        fraction: of the way to the boundary that a step may go, ``(batch,)``.
    """
    exists = program.exists
    direction = system.direction(target)
    merit = Merit.along(point, direction, target, sizes, exists)
    bound = merit.value(point.values, point.slack) + merit.rounding(point.values, point.slack)
    primal, dual = (fraction * reach for reach in direction.reach(point))
    primal, dual = primal.clamp_max(1), dual.clamp_max(1)
    length = primal
    accepted = torch.zeros_like(length, dtype=torch.bool)
    y, slack = point.y, point.slack
    for trial in range(_MAX_TRIALS):
        trial_y = point.y + length.unsqueeze(-1) * direction.y
        trial_slack = point.slack + length.unsqueeze(-1) * direction.slack
        values = program.values(trial_y)
        passed = merit.value(values, trial_slack) <= bound + _ARMIJO * length * merit.slope
        y, slack = _take(passed & ~accepted, (trial_y, trial_slack), (y, slack))
        accepted = accepted | passed
        curved = merit.violation(values, trial_slack) > merit.violation(point.values, point.slack)
        if bool((curved & ~accepted).any()):
            gap = torch.where(exists, values.inequality + trial_slack, 0)
            back = system.correction(values.equality, gap)
            trial_y = trial_y + back.y
            trial_slack = torch.maximum(trial_slack + back.slack, 0.1 * trial_slack)
            values = program.values(trial_y)
            passed = merit.value(values, trial_slack) <= bound + _ARMIJO * length * merit.slope
            y, slack = _take(passed & ~accepted, (trial_y, trial_slack), (y, slack))
            accepted = accepted | passed
        if bool(accepted.all()):
            break
        shrink = 0.5 if trial < _MAX_TRIALS // 4 else 0.1
        length = torch.where(accepted, length, shrink * length)
    length = torch.where(accepted, length, 0)
    step = direction.scaled(length, torch.where(accepted, dual, 0))
    step = replace(
        step,
        y=y - point.y,
        slack=slack - point.slack,
        equality=length.unsqueeze(-1) * direction.equality,
    )
    moved, finite = advance(point, step, program)
    center = (target.unsqueeze(-1) / moved.slack).expand_as(moved.inequality)
    clipped = torch.minimum(torch.maximum(moved.inequality, center / _WIDTH), center * _WIDTH)
    inequality = torch.where(exists, clipped, 0)
    # After a short step, the multipliers that fit best are better than a fraction of their change.
    pull = moved.first.gradient + moved.first.inequality.transposed_times(inequality)
    equality = least_squares_multipliers(pull, moved.first.equality)
    equality = torch.where((length < 1).unsqueeze(-1), equality, moved.equality)
    moved = replace(moved, y=y, slack=slack, equality=equality, inequality=inequality)
    return moved.where(accepted & finite, point), accepted & finite


def _take(
    mask: Tensor, new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    first, second = (torch.where(mask.unsqueeze(-1), a, b) for a, b in zip(new, old, strict=True))
    return first, second
