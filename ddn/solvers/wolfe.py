"""Line search for the strong Wolfe conditions, for a whole batch at once.

For φ(t) = f(y + t d) with φ'(0) < 0, a step t is sought with

    φ(t) ≤ φ(0) + c₁ t φ'(0)   and   |φ'(t)| ≤ c₂ |φ'(0)| ,

by bracketing and by zooming with safeguarded cubic interpolation (Nocedal and Wright 2006, algorithms 3.5
and 3.6). Both are one loop here: in every pass each problem that is still searching tries one step, and
what it learns decides whether its bracket grows, shrinks, or the search ends.

Near a minimum the decrease of f drowns in rounding errors long before its slope does. There the first
condition is replaced by the one that it implies for a quadratic, φ'(t) ≤ (2c₁ − 1) φ'(0), where φ(t)
cannot be told from φ(0) (Hager and Zhang 2005, eq. 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["Sample", "Search", "search_wolfe"]

_ARMIJO, _CURVATURE = 1e-4, 0.9
# Growth of a step that is still too short, and the part of the bracket that every trial cuts off at least.
_GROWTH, _SAFEGUARD = 4.0, 0.1


@dataclass(frozen=True)
class Sample:
    """A point of the line, its objective and gradient.

    Attributes:
        step: t, ``(batch,)``.
        y: ``(batch, m)``.
        value: φ(t), ``(batch,)``.
        gradient: ∇f, ``(batch, m)``.
        slope: φ'(t), ``(batch,)``.
    """

    step: Tensor
    y: Tensor
    value: Tensor
    gradient: Tensor
    slope: Tensor

    @property
    def is_finite(self) -> Tensor:
        """Whether objective and gradient are finite, ``(batch,)``."""
        return self.value.isfinite() & self.gradient.isfinite().all(-1)

    def select(self, index: Tensor) -> Sample:
        """The problems ``index``."""
        return Sample(*(getattr(self, field.name)[index] for field in fields(self)))

    def put(self, index: Tensor, other: Sample) -> None:
        """Overwrite the problems ``index``."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)

    def copy(self) -> Sample:
        """With memory of its own."""
        return Sample(*(getattr(self, field.name).clone() for field in fields(self)))


@dataclass(frozen=True)
class Search:
    """Where a line search ended.

    Attributes:
        sample: the best point found; the origin where there is none.
        moved: whether it is better than the origin, ``(batch,)``.
        endless: whether the objective was −∞, or still fell on the longest step of an endless line.
    """

    sample: Sample
    moved: Tensor
    endless: Tensor


def search_wolfe(
    evaluate: Callable[[Tensor, Tensor], Sample],
    origin: Sample,
    first: Tensor,
    longest: Tensor,
    slack: Tensor,
    max_evaluations: int,
) -> Search:
    """Search along one line per problem; a point that is not finite is never taken.

    Args:
        evaluate: of the indices of some problems and one step for each.
        origin: t = 0, with negative slopes; other problems do not move.
        first: the step to try first, ``(batch,)``.
        longest: the longest step allowed, taken if φ still falls there.
        slack: size of rounding errors in φ, ``(batch,)``.
        max_evaluations: per problem.
    """
    low = origin.copy()
    high_step, high_value, high_slope = (torch.full_like(first, torch.inf) for _ in range(3))
    step = torch.minimum(first, longest)
    moved = torch.zeros_like(first, dtype=torch.bool)
    endless = moved.clone()
    pending = ((origin.slope < 0) & (step > 0)).nonzero().squeeze(-1)
    for _ in range(max_evaluations):
        if len(pending) == 0:
            break
        trial = evaluate(pending, step[pending])
        before, lower = origin.select(pending), low.select(pending)
        upper = (high_step[pending], high_value[pending], high_slope[pending])
        finite, t, limit = trial.is_finite, trial.step, longest[pending]
        decrease = trial.value <= before.value + _ARMIJO * t * before.slope
        flat = (trial.value - before.value).abs() <= slack[pending]
        by_slope = flat & (trial.slope <= (2 * _ARMIJO - 1) * before.slope)
        by_slope = by_slope & (trial.slope.abs() <= -_CURVATURE * before.slope)
        # The end of a line that leads to a bound from close by.
        last = flat & (trial.slope <= 0) & (t >= limit)
        ok = finite & ((decrease & (trial.value < lower.value)) | by_slope | last)
        done = ok & (trial.slope.abs() <= -_CURVATURE * before.slope)
        rising = ok & (trial.slope * (upper[0] - lower.step) >= 0)
        # Where the trial becomes the lower end, the bracket is on the side to which φ falls.
        replaced = torch.where(rising, lower.step, upper[0])
        high_step[pending] = torch.where(ok, replaced, t)
        high_value[pending] = torch.where(
            ok, torch.where(rising, lower.value, upper[1]), trial.value
        )
        high_slope[pending] = torch.where(
            ok, torch.where(rising, lower.slope, upper[2]), trial.slope
        )
        low.put(pending[ok], trial.select(ok))
        moved[pending] = moved[pending] | ok
        falls = ok & ~done & ~rising & (t >= limit)
        fell = trial.value == -torch.inf
        endless[pending] = fell | endless[pending]
        # A bracket without room for another number is done, too.
        left, right = low.step[pending], high_step[pending]
        room = (right - left).abs()
        closed = room <= 4 * torch.finfo(t.dtype).eps * torch.maximum(left, right)
        closed = closed & right.isfinite()
        keep = ~(done | falls | fell | closed)
        pending, limit = pending[keep], limit[keep]
        step[pending] = _next_step(
            low.select(pending),
            high_step[pending],
            high_value[pending],
            high_slope[pending],
            limit,
        )
    return Search(low, moved, endless)


def _next_step(low: Sample, step: Tensor, value: Tensor, slope: Tensor, limit: Tensor) -> Tensor:
    """The minimum of the cubic through both ends of a bracket; a longer step where it is open.

    Nocedal and Wright 2006, eq. 3.59, and bisection where that leaves the inner part of the bracket.
    """
    width = step - low.step
    first = low.slope + slope - 3 * (low.value - value) / (low.step - step)
    second = width.sign() * (first.square() - low.slope * slope).sqrt()
    cubic = step - width * (slope + second - first) / (slope - low.slope + 2 * second)
    middle = low.step + width / 2
    inside = (cubic - middle).abs() <= (0.5 - _SAFEGUARD) * width.abs()
    # An end that is not finite says nothing of where the minimum is, only that it is nearer.
    known = inside & cubic.isfinite() & value.isfinite()
    zoomed = torch.where(known, cubic, low.step + width * torch.where(value.isfinite(), 0.5, 0.1))
    longer = torch.minimum(_GROWTH * torch.maximum(low.step, torch.zeros_like(low.step)), limit)
    return torch.where(step == torch.inf, longer, zoomed)
