"""What a method that sees gradients alone needs to know when it has arrived.

As in :mod:`ddn.solvers.newton` the error is ‖∇f‖_∞ (of the variables that may move) against the size of the
terms that cancel in it, ‖∇f‖_∞ of all variables and ‖H y‖_∞, so that no result depends on units. Products
H v, by one more reverse pass, are taken only where the gradient is small already. They also tell a minimum
from places where the gradient vanishes and f still falls:

* a tail such as exp(−y): Newton's step along the search direction, t d with t = −∇fᵀd / dᵀH d, stays long;
* a tail that has vanished in rounding: H vanished, too, along a last step that was long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ddn.functional import reverse
from ddn.generic import generic_vector
from ddn.optimality import largest
from ddn.problem import Problem
from ddn.solvers.box import Box

__all__ = ["Judge", "Progress"]

# So many iterations in which the error does not fall below this part of it are enough, once it is acceptable.
_PATIENCE, _LONG_PATIENCE, _AHEAD = 10, 100, 0.7
# The size of the terms is estimated to within this factor before H is asked.
_MARGIN = 30.0


AnyPoint = TypeVar("AnyPoint", bound="Point")


class Point(Protocol):
    """A point with objective and gradient."""

    @property
    def y(self) -> Tensor:
        """``(batch, m)``."""

    @property
    def value(self) -> Tensor:
        """f, ``(batch,)``."""

    @property
    def gradient(self) -> Tensor:
        """∇f, ``(batch, m)``."""

    def select(self: AnyPoint, index: Tensor) -> AnyPoint:
        """The problems ``index``."""


@dataclass(frozen=True)
class Progress:
    """What is remembered of every problem, ``(batch,)`` each unless said otherwise.

    Attributes:
        best: the most exact acceptable y, ``(batch, m)``.
        best_error: the smallest error of such points; infinite where there is none.
        best_residual: the smallest ‖∇f‖_∞ of them.
        goal: error below which an iteration counts as progress.
        waiting: iterations without progress.
        extent: size of y at the start.
        start_size: of the point of a cold start.
        start_gradient: ‖∇f‖_∞ there.
        size: of y now, at least the extent.
        greatest: the largest ‖∇f‖_∞ so far.
        step: the last step, ``(batch, m)``.
        change: of the gradient along it, ``(batch, m)``.
        before: ‖∇f‖_∞ before it.
        rounding: size of rounding errors in f.
        is_done: nothing is left to do.
    """

    best: Tensor
    best_error: Tensor
    best_residual: Tensor
    goal: Tensor
    waiting: Tensor
    extent: Tensor
    start_size: Tensor
    start_gradient: Tensor
    size: Tensor
    greatest: Tensor
    step: Tensor
    change: Tensor
    before: Tensor
    rounding: Tensor
    is_done: Tensor

    @classmethod
    def begin(
        cls, problem: Problem, point: Point, start: Tensor, operands: Sequence[Tensor]
    ) -> Progress:
        """Before the first iteration from ``point``; ``start`` is where a cold start would be."""
        zero, infinite = torch.zeros_like(point.value), torch.full_like(point.value, torch.inf)
        no = torch.zeros_like(zero, dtype=torch.bool)
        initial = largest(problem.gradient(start, operands)).nan_to_num(0, 0, 0)
        extent = torch.maximum(largest(start), largest(point.y))
        greatest = largest(point.gradient)
        nowhere = torch.zeros_like(point.y)
        return cls(
            point.y, infinite, infinite, infinite, zero, extent, largest(start), initial, extent, greatest,
            nowhere, nowhere, greatest, zero, no,
        )  # fmt: skip

    @property
    def is_acceptable(self) -> Tensor:
        """Whether there is a point that will do."""
        return self.best_error.isfinite()

    def select(self, index: Tensor) -> Progress:
        """The problems ``index``."""
        return Progress(*(getattr(self, field.name)[index] for field in fields(self)))

    def moved(self, old: Point, new: Point, mask: Tensor) -> Progress:
        """After a step of the problems ``mask``."""
        rows = mask.unsqueeze(-1)
        return replace(
            self,
            size=torch.maximum(largest(new.y), self.extent),
            greatest=torch.maximum(self.greatest, largest(new.gradient)),
            step=torch.where(rows, new.y - old.y, self.step),
            change=torch.where(rows, new.gradient - old.gradient, self.change),
            before=torch.where(mask, largest(old.gradient), self.before),
        )

    def floor(self, y: Tensor) -> Tensor:
        """What counts as a small gradient where y is zero; see :func:`ddn.optimality.scale_at_zero`."""
        eps = torch.finfo(y.dtype).eps
        is_small = largest(y) <= eps**0.25 * self.start_size
        return torch.where(is_small, eps**0.5 * self.start_gradient, 0)

    def record(
        self, y: Tensor, residual: Tensor, acceptable: Tensor, measure: Tensor, limit: float
    ) -> Progress:
        """With another point taken into account.

        Args:
            y: the point, ``(batch, m)``.
            residual: ‖∇f‖_∞ of the variables that may move, ``(batch,)``.
            acceptable: where the point will do.
            measure: relative error, without regard to where the problems come from.
            limit: up to which it will do in any case.
        """
        better = acceptable & ((measure < self.best_error) | (residual < self.best_residual))
        ahead = acceptable & ((measure <= self.goal) | (residual <= _AHEAD * self.best_residual))
        best_error = torch.where(acceptable, measure.minimum(self.best_error), self.best_error)
        waiting = torch.where(ahead, 0, self.waiting + 1)
        # Linear convergence to y = 0 would go on until it underflows.
        eps = torch.finfo(y.dtype).eps
        exact = acceptable & ((measure <= 4 * eps) | (largest(y) <= eps**2 * self.start_size))
        # Good enough beside the start only: y may be on its way still.
        patience = torch.where(best_error <= limit, _PATIENCE, _LONG_PATIENCE)
        patient = best_error.isfinite() & (waiting >= patience)
        return replace(
            self,
            best=torch.where(better.unsqueeze(-1), y, self.best),
            best_error=best_error,
            best_residual=torch.where(
                better, residual.minimum(self.best_residual), self.best_residual
            ),
            goal=torch.where(acceptable & (measure <= self.goal), _AHEAD * measure, self.goal),
            waiting=waiting,
            is_done=(residual == 0) | exact | patient,
        )

    def vanished(self, now: Tensor, short: Tensor) -> Tensor:
        """Where the last step was long and the curvature along it is gone, and the gradient with it.

        Args:
            now: sᵀ H s / ‖s‖_∞² for the last step s, ``(batch,)``.
            short: length up to which a step is short.
        """
        last = largest(self.step)
        average = (self.step * self.change / _nonzero(last).square().unsqueeze(-1)).sum(-1)
        eps, tiny = torch.finfo(self.step.dtype).eps, torch.finfo(self.step.dtype).tiny
        gone = (last > short) & (now <= (eps**0.5 * average).clamp_min(tiny))
        result: Tensor = gone & (self.before <= eps**0.5 * self.greatest)
        return result

    def is_endless(self, y: Tensor) -> Tensor:
        """Whether y has left every scale."""
        limit = self.extent.clamp_min(1) * torch.finfo(y.dtype).eps ** -1.5
        result: Tensor = largest(y) > limit
        return result


@dataclass(frozen=True)
class Judge:
    """Measures how far the problems have come."""

    problem: Problem
    operands: list[Tensor]
    box: Box
    tolerance: float | None

    def judge(
        self, progress: Progress, point: AnyPoint, direction: Tensor, terms: Tensor
    ) -> Progress:
        """Progress with another point taken into account.

        Args:
            progress: so far.
            point: where the problems are.
            direction: the step that they would take.
            terms: an estimate of ‖H y‖_∞, ``(batch,)``.
        """
        y, eps = point.y, torch.finfo(point.y.dtype).eps
        limit = eps**0.5 if self.tolerance is None else self.tolerance
        residual = largest(self.box.projected_gradient(y, point.gradient))
        size = largest(point.gradient)
        terms = torch.maximum(size, terms)
        secant = largest(progress.change) / _nonzero(largest(progress.step)) * largest(y)
        estimate = torch.stack([terms, secant, progress.floor(y)]).amax(0)
        small = (residual == 0) | (residual <= _MARGIN * limit * estimate)
        finite = point.value.isfinite() & point.gradient.isfinite().all(-1)
        acceptable = torch.zeros_like(small)
        measure = torch.full_like(residual, torch.inf)
        index = (small & finite).nonzero().squeeze(-1)
        if len(index):
            acceptable[index], measure[index] = self._measure(
                progress.select(index),
                point.select(index),
                direction[index],
                residual[index],
                limit,
                index,
            )
        rounding = eps * (10 * point.value.abs() + terms * y.abs().sum(-1))
        return replace(progress.record(y, residual, acceptable, measure, limit), rounding=rounding)

    def _measure(
        self,
        progress: Progress,
        point: Point,
        direction: Tensor,
        residual: Tensor,
        limit: float,
        index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Where the point will do, and its relative error.

        Where y is known less well than the gradient is small, the length of Newton's step counts. Against the
        point of the start y may be as good as zero, so that it will do; iterations go on all the same as
        long as they improve what y itself says.
        """
        y, eps = point.y, torch.finfo(point.y.dtype).eps
        operands = self.problem.select(self.operands, index)
        _, pullback = reverse(lambda y: self.problem.gradient(y, operands), y)
        curvature = largest(pullback(y * generic_vector(y))[0])
        terms = torch.maximum(largest(point.gradient), curvature)
        length = largest(direction)
        unit = direction / _nonzero(length).unsqueeze(-1)
        bend = (unit * pullback(unit)[0]).sum(-1)
        newton = (unit * point.gradient).sum(-1).abs() / bend
        newton = torch.where(length == 0, 0, torch.where(bend > 0, newton, torch.inf))
        along = progress.step / _nonzero(largest(progress.step)).unsqueeze(-1)
        now = (along * pullback(along)[0]).sum(-1)
        short = eps**0.375 * progress.size
        arrived = (newton <= short) & ~progress.vanished(now, short)
        acceptable = residual <= limit * torch.maximum(terms, progress.floor(y))
        error = torch.where(residual == 0, 0, residual / _nonzero(terms))
        measure = torch.maximum(error, eps**0.125 * newton / _nonzero(largest(y)))
        return arrived & acceptable & measure.isfinite(), measure


def _nonzero(size: Tensor) -> Tensor:
    return torch.where(size > 0, size, 1)
