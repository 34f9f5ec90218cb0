"""Nonlinear least squares, for nodes that state a residual: Levenberg–Marquardt and Gauss–Newton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.optimality import largest
from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.box import Box, refuse_rows
from ddn.solvers.curvature import solve_to_minima
from ddn.solvers.first_order import Judge, Progress
from ddn.solvers.least_squares import Factors, ResidualPoint, require_residual

__all__ = ["GaussNewton", "LevenbergMarquardt"]

# Part of the reduction that the linear model promises which a step must bring.
_GAIN = 1e-4


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Levenberg–Marquardt method for

        argmin_y ½ ‖r(x, y)‖²   subject to   l(x) ≤ y ≤ b(x),

    bounds being optional, and r the ``residual`` of the node. Every problem of the batch is independent.
    The step minimizes ‖r + J p‖² + λ ‖D p‖², with D the sizes of the columns of J (Moré 1978) and λ
    set by how well the linear model foretold the last reduction (Nielsen 1999); it is projected on the
    bounds (Kanzow, Yamashita and Fukushima 2004). Where J is rank-deficient, steps are the shortest ones.
    Convergence is quadratic if r vanishes at the solution, and linear if it does not, the slower the
    larger r and its curvature: Newton is faster then. J has k × m entries for each problem.

    The derivative of the solution is that of the problem, with the exact Hessian, whichever solver has
    found it.

    Attributes:
        max_iterations: per problem, including steps that are rejected.
        tolerance: relative size of the projected gradient at which a problem counts as solved; None means √ε
            of the dtype. Iterations go on below it as long as they still improve.
        damping: λ at the start; beside 1, the columns of J D⁻¹ having that length at most.
    """

    max_iterations: int = 500
    tolerance: float | None = None
    damping: float = 1e-3

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives; multipliers of a warm start are of no use to it."""
        refuse_rows(problem, "LevenbergMarquardt")
        require_residual(problem, "LevenbergMarquardt")
        method = _Method(_Damped(self.damping), self.max_iterations, self.tolerance)
        return method.solve(problem, operands, warm_start)


@dataclass(frozen=True)
class GaussNewton:
    """Gauss–Newton method for

        argmin_y ½ ‖r(x, y)‖² ,

    with r the ``residual`` of the node. The step minimizes ‖r + J p‖ (the shortest one, where J is
    rank-deficient), and is halved until it reduces the objective as far as it should (Nocedal and Wright
    2006, section 10.3). It has no damping that would make up for a J that is nearly rank-deficient:
    :class:`LevenbergMarquardt` is more robust, and treats bounds. Otherwise all that is said there holds.

    Attributes:
        max_iterations: per problem, including steps that are rejected.
        tolerance: relative size of the gradient at which a problem counts as solved; None means √ε of the
            dtype. Iterations go on below it as long as they still improve.
    """

    max_iterations: int = 500
    tolerance: float | None = None

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives; multipliers of a warm start are of no use to it."""
        refuse_rows(problem, "GaussNewton")
        if problem.has_bounds:
            raise SignatureError(
                f"{type(problem.node).__name__} states bounds, which GaussNewton does not treat: use "
                "solver=ddn.solvers.LevenbergMarquardt()."
            )
        require_residual(problem, "GaussNewton")
        method = _Method(_Shortened(), self.max_iterations, self.tolerance)
        return method.solve(problem, operands, warm_start)


class _Control(Protocol):
    """How far a step goes: numbers ``(batch, 2)`` that change with what has come of the last one."""

    def initial(self, like: Tensor) -> Tensor: ...

    def step(self, factors: Factors, control: Tensor) -> Tensor: ...

    def update(self, control: Tensor, accepted: Tensor, gain: Tensor) -> Tensor: ...

    def is_exhausted(self, control: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class _Damped:
    """λ and its growth at the next rejection (Nielsen 1999, eq. 2.4)."""

    first: float

    def initial(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.first, 2.0]).repeat(len(like), 1)

    def step(self, factors: Factors, control: Tensor) -> Tensor:
        return factors.step(control[:, 0])

    def update(self, control: Tensor, accepted: Tensor, gain: Tensor) -> Tensor:
        damping, growth = control.unbind(-1)
        # Nielsen's third is the tenth here, for the sake of quadratic convergence.
        smaller = damping * (1 - (2 * gain - 1) ** 3).clamp(0.1, 2)
        damping = torch.where(accepted, smaller, damping * growth)
        return torch.stack([damping, torch.where(accepted, 2, 2 * growth)], -1)

    def is_exhausted(self, control: Tensor) -> Tensor:
        return control[:, 0] > torch.finfo(control.dtype).eps ** -2


@dataclass(frozen=True)
class _Shortened:
    """The part of the step that is taken, halved until it will do."""

    def initial(self, like: Tensor) -> Tensor:
        return like.new_ones(len(like), 2)

    def step(self, factors: Factors, control: Tensor) -> Tensor:
        return control[:, :1] * factors.step(torch.zeros_like(control[:, 0]))

    def update(self, control: Tensor, accepted: Tensor, gain: Tensor) -> Tensor:
        return torch.where(accepted.unsqueeze(-1), 1, control / 2)

    def is_exhausted(self, control: Tensor) -> Tensor:
        return control[:, 0] < torch.finfo(control.dtype).eps


@dataclass(frozen=True)
class _Method:
    """What both have in common."""

    control: _Control
    max_iterations: int
    tolerance: float | None

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None
    ) -> SolverResult:
        batch, m = problem.batch_shape(operands), problem.num_variables
        flat = problem.flatten_batch(operands)
        start = problem.starting_point(operands).reshape(batch.numel(), m)
        y = start if warm_start is None else warm_start.y.reshape(start.shape)
        box = Box.of(problem, flat, y)
        start, y = box.project(start), box.project(y).clone()
        status = torch.full(y.shape[:-1], int(Status.MAX_ITERATIONS), device=y.device)
        status = torch.where(box.is_empty, int(Status.INFEASIBLE), status)
        status = torch.where(box.has_nan, int(Status.NOT_FINITE), status)
        iterations = torch.zeros_like(status)
        if m:
            state = (y, status, iterations)
            solve_to_minima(
                lambda running: self._run(problem, flat, box, start, state, running),
                problem,
                flat,
                box,
                start,
                y,
                status,
            )
        else:
            status[status == Status.MAX_ITERATIONS] = int(Status.CONVERGED)
        multipliers = box.multipliers(y, problem.gradient(y, flat))
        return SolverResult(
            y.reshape(*batch, m),
            multipliers.reshape(*batch, multipliers.shape[-1]),
            status.reshape(batch),
            iterations.reshape(batch),
        )

    def _run(
        self,
        problem: Problem,
        flat: list[Tensor],
        box: Box,
        start: Tensor,
        state: tuple[Tensor, Tensor, Tensor],
        running: Tensor,
    ) -> None:
        """Solve the problems ``running`` from where they are; y, status and iterations are written."""
        y, status, iterations = state
        if len(running) == 0:
            return
        operands, box = problem.select(flat, running), box.select(running)
        point = ResidualPoint.at(problem, y[running], operands)
        finite = point.is_finite
        status[running[~finite]] = int(Status.NOT_FINITE)
        # Decompositions raise an error for a whole batch if one matrix has a NaN.
        if not bool(finite.any()):
            return
        point, running = point.select(finite), running[finite]
        operands, box = problem.select(operands, finite.nonzero().squeeze(-1)), box.select(finite)
        progress = Progress.begin(problem, point, start[running], operands)
        control, scale = self.control.initial(point.y), torch.zeros_like(point.y)
        while len(running):
            # A variable whose effect shrinks on the way is not to be thrown far off (Moré 1978).
            scale = torch.maximum(point.column_sizes(), scale)
            factors = Factors.of(point, torch.where(scale > 0, scale, 1), box)
            target = box.project(point.y + self.control.step(factors, control))
            judge = Judge(problem, operands, box, self.tolerance)
            progress = judge.judge(progress, point, target - point.y, point.curvature_terms())
            trial = ResidualPoint.at(problem, target, operands)
            accepted, gain = _compare(point, trial, scale, box)
            control = self.control.update(control, accepted, gain)
            old, new = point, trial.where(accepted, point)
            point = new
            endless = progress.is_endless(new.y)
            stuck = self.control.is_exhausted(control)
            done, solved = progress.is_done, progress.is_acceptable
            late = iterations[running] >= self.max_iterations
            going = ~(done | stuck | endless | late)
            outcome = torch.full_like(status[running], int(Status.MAX_ITERATIONS))
            outcome = torch.where(stuck | done, int(Status.STALLED), outcome)
            outcome = torch.where(endless, int(Status.UNBOUNDED), outcome)
            outcome = torch.where(solved, int(Status.CONVERGED), outcome)
            ended = running[~going]
            status[ended] = outcome[~going]
            y[ended] = torch.where(solved.unsqueeze(-1), progress.best, new.y)[~going]
            progress = progress.moved(old, new, accepted)
            iterations[running] += going
            if not bool(going.all()):
                index = going.nonzero().squeeze(-1)
                operands, box, running = (
                    problem.select(operands, index),
                    box.select(index),
                    running[index],
                )
                point, progress = point.select(index), progress.select(index)
                control, scale = control[index], scale[index]


def _compare(
    point: ResidualPoint, trial: ResidualPoint, scale: Tensor, box: Box
) -> tuple[Tensor, Tensor]:
    """Whether a trial will do, and the reduction that it brings against what the model promised.

    Near a solution with r ≠ 0 reductions drown in rounding errors. There the gradient decides.
    """
    step = trial.y - point.y
    predicted, actual = point.predicted(step), point.value - trial.value
    gain = actual / torch.where(predicted > 0, predicted, 1)
    eps = torch.finfo(step.dtype).eps
    change = (point.jacobian.abs() @ point.y.abs().unsqueeze(-1)).squeeze(-1)
    rounding = eps * (10 * point.value + point.residual.norm(dim=-1) * change.norm(dim=-1))
    weights = torch.where(scale > 0, scale, 1)
    before = largest(box.projected_gradient(point.y, point.gradient) / weights)
    after = largest(box.projected_gradient(trial.y, trial.gradient) / weights)
    unseen = (predicted <= rounding) & (actual.abs() <= rounding)
    gain = torch.where(unseen, torch.where(after < before, 1, 0), gain)
    accepted = trial.is_finite & (predicted > 0) & (gain >= _GAIN)
    return accepted, torch.where(accepted, gain, 0)
