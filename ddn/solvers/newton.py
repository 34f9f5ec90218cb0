"""Newton's method on the KKT system, for smooth problems with equality constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.generic import generic_signs
from ddn.lagrangian import Lagrangian
from ddn.linear_solve import solve_symmetric
from ddn.multipliers import least_squares_multipliers
from ddn.optimality import largest, scale_beside
from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.barrier.batched import Batched
from ddn.solvers.barrier.program import NodeProgram
from ddn.solvers.inertia import inertia_corrected_step

__all__ = ["Newton"]

_ARMIJO = 1e-4
# A Newton step that shrinks the optimality error this much is taken whatever the merit function says of
# it: near a solution the merit function rejects good steps (Maratos effect).
_SUFFICIENT_DECREASE = 0.5
# So many of these steps need not lead below the smallest error so far; if all might, such steps and those of
# the line search could undo each other for ever.
_DETOURS = 10
# Relative length of a step away from a stationary point that is no minimum.
_NUDGE = 1e-2
# Longest trial of a line search against the size of y, once so many halvings have been in vain.
_LONGEST_STEP, _PATIENCE = 100.0, 10


@dataclass(frozen=True)
class Newton:
    """Line-search Newton method on the optimality conditions of

        argmin_y f(x, y)   subject to   h(x, y) = 0.

    Every problem of the batch is independent. The step solves the KKT system, with H shifted until the
    matrix has the inertia (m, p, 0) of a strict minimum on the null space of the constraints, so that
    maxima and saddle points repel. Steps are halved until the ℓ1 merit function f + ρ‖h‖₁ decreases; a
    point where it is not finite is never taken, so that iterates stay inside the domain of f.
    (Nocedal and Wright 2006, ch. 18; Wächter and Biegler 2006.)

    Attributes:
        max_iterations: per problem.
        max_halvings: of one step.
        tolerance: relative optimality error at which a problem counts as solved; None means ε^(2/3) of the
            dtype, or √ε where no step leads further. Iterations go on below it as long as they still
            improve, so that solutions are as exact as the dtype allows.
    """

    max_iterations: int = 200
    max_halvings: int = 40
    tolerance: float | None = None

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives; multipliers of a warm start are of no use to it."""
        if problem.has_inequality:
            raise SignatureError(
                f"{type(problem.node).__name__} states inequalities or bounds, which Newton does not "
                "treat: use solver=ddn.solvers.InteriorPoint(), or none to get it by default."
            )
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch(operands)
        y = problem.starting_point(operands).reshape(batch.numel(), problem.num_variables)
        # The point of a cold start says how large things are, wherever the iterations start.
        start = y.clone()
        if warm_start is not None:
            y = warm_start.y.reshape(y.shape).clone()
        extent = torch.maximum(largest(start), largest(y))
        status = torch.full(y.shape[:-1], int(Status.MAX_ITERATIONS), device=y.device)
        iterations = torch.zeros_like(status)
        acceptable = torch.zeros_like(status, dtype=torch.bool)
        memory = y.new_tensor([torch.inf, torch.inf, 0]).repeat(len(y), 1)
        program = NodeProgram(problem, flat, None, y)
        point = _Point.at(program, y)
        initial = largest(point.gradient if warm_start is None else problem.gradient(start, flat))
        running = torch.arange(len(y), device=y.device)
        for _ in range(self.max_iterations):
            selected = program.select(running)
            floor = scale_beside(point.y, start[running], initial[running])
            point, status[running], acceptable[running], memory[running] = self._step(
                selected, point, floor, extent[running], memory[running]
            )
            y[running] = point.y
            left = status[running] == Status.MAX_ITERATIONS
            if not bool(left.all()):
                running, point = running[left], point.select(left)
            if len(running) == 0:
                break
            iterations[running] += 1
        status = torch.where(acceptable, int(Status.CONVERGED), status)
        multipliers = _Point.at(program, y).multipliers
        return SolverResult(
            y.reshape(*batch, y.shape[-1]),
            multipliers.reshape(*batch, multipliers.shape[-1]),
            status.reshape(batch),
            iterations.reshape(batch),
        )

    def _step(
        self,
        program: NodeProgram,
        point: _Point,
        floor: Tensor,
        extent: Tensor,
        memory: Tensor,
    ) -> tuple[_Point, Tensor, Tensor, Tensor]:
        """One iteration.

        Returns:
            The new point, a status that is MAX_ITERATIONS while there is more to do, whether y will do if
            nothing better comes, and what to remember: the smallest residuals so far and the number of
            detours, ``(batch, 3)``.
        """
        y = point.y
        eps = torch.finfo(y.dtype).eps
        tolerance = eps ** (2 / 3) if self.tolerance is None else self.tolerance
        no_inequality = torch.zeros_like(y[..., :0], dtype=torch.bool)
        hessian = Lagrangian(program.problem).hessian(
            y, point.multipliers, no_inequality, program.operands
        )
        scale = _Scale.at(point, hessian, floor)
        error = scale.error(point)
        # Beside the gradient at the start, where that is huge, a point may only look like a solution.
        strict = _Scale.at(point, hessian, torch.zeros_like(error)).error(point)
        smallest, detours = memory[..., :2], memory[..., 2]
        before = scale.relative(smallest)
        smallest = torch.where((error < before).unsqueeze(-1), point.residuals, smallest)
        direction, correction, convex = inertia_corrected_step(
            point.stationarity, point.constraint, hessian, point.jacobian
        )
        target = point.multipliers + correction

        trial = _Point.at(program, y + direction)
        after = scale.error(trial)
        newton = convex & (after <= _SUFFICIENT_DECREASE * error)
        detour = newton & ~(after <= _SUFFICIENT_DECREASE * before)
        newton = newton & (~detour | (detours < _DETOURS))
        memory = torch.cat([smallest, (detours + detour).unsqueeze(-1)], -1)
        merit = _Merit.along(point, hessian, direction, target)
        searched, moved = self._line_search(program, point, direction, merit, newton, extent)
        new_y = torch.where(newton.unsqueeze(-1), y + direction, searched)

        # Where the objective falls off for ever, gradients vanish, too; but the steps stay long, or y
        # leaves every scale.
        size = torch.maximum(y.abs().amax(-1), extent)
        near = direction.abs().amax(-1) <= eps ** (3 / 8) * size
        bounded = size <= extent.clamp_min(1) * eps**-1.5
        near = near & bounded
        exhausted = (~newton & (strict <= tolerance)) | (strict <= 4 * eps)
        solved = convex & near & exhausted & (error <= tolerance)
        acceptable = convex & near & (error <= max(tolerance, eps**0.5))
        finite = error.isfinite() & direction.isfinite().all(-1)
        status = torch.full_like(error, int(Status.MAX_ITERATIONS), dtype=torch.int64)
        status = torch.where(~(newton | moved), int(Status.STALLED), status)
        status = torch.where(scale.is_infeasible(point), int(Status.INFEASIBLE), status)
        status = torch.where(~bounded, int(Status.UNBOUNDED), status)
        status = torch.where(~finite, int(Status.NOT_FINITE), status)
        status = torch.where(solved, int(Status.CONVERGED), status)
        new_y = torch.where((status == Status.MAX_ITERATIONS).unsqueeze(-1), new_y, y)
        # A maximum or saddle that was hit to the last digit does not repel: a nudge, and its neighbors do.
        hit = ~convex & near & (strict <= 100 * eps)
        nudge = _NUDGE * size.unsqueeze(-1) * generic_signs(y)
        new_y = torch.where(
            (hit & (status == Status.MAX_ITERATIONS)).unsqueeze(-1), y + nudge, new_y
        )
        # Most steps are Newton's: their end is evaluated already.
        taken = (new_y == trial.y).all(-1)
        stays = (new_y == y).all(-1)
        if not bool((taken | stays).all()):
            trial = _Point.at(program, new_y)
        new_point = point.where(stays, trial) if bool(stays.any()) else trial
        return new_point, status, solved | acceptable, memory

    def _line_search(
        self,
        program: NodeProgram,
        point: _Point,
        direction: Tensor,
        merit: _Merit,
        skip: Tensor,
        extent: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """A point with a smaller merit function, and where there is one.

        A trial that fails is tried again after a step back to the constraints (second-order correction,
        Nocedal and Wright 2006, section 18.3): on curved constraints long steps would fail without.
        """
        if bool(skip.all()):
            return point.y, ~skip
        initial = merit.value(point.objective, point.constraint)
        slack = 10 * torch.finfo(initial.dtype).eps * initial.abs()
        # Where curvature almost vanishes, a step is longer than any number of halvings makes up for.
        reach = _LONGEST_STEP * torch.maximum(point.y.abs().amax(-1), extent)
        reach = (reach / direction.abs().amax(-1)).nan_to_num(1, 1, 1)
        length = torch.ones_like(initial)
        found, accepted = point.y, skip.clone()
        for halving in range(self.max_halvings):
            trial = point.y + length.unsqueeze(-1) * direction
            bound = initial + _ARMIJO * length * merit.slope + slack
            values = program.values(trial)
            for corrected in (False, True) if point.constraint.shape[-1] else (False,):
                if corrected:
                    trial = trial + _normal_step(point.jacobian, values.equality)
                    values = program.values(trial)
                passed = merit.value(values.objective, values.equality) <= bound
                found = torch.where((passed & ~accepted).unsqueeze(-1), trial, found)
                accepted = accepted | passed
            if bool(accepted.all()):
                break
            length = torch.where(accepted, length, length / 2)
            if halving == _PATIENCE:
                length = torch.minimum(length, reach)
        return found, accepted & ~skip


@dataclass(frozen=True)
class _Point(Batched):
    """Everything of first order at y.

    The multipliers are those of least squares (Nocedal and Wright 2006, eq. 18.21): they depend on y
    alone and keep the convergence quadratic.
    """

    y: Tensor
    objective: Tensor
    gradient: Tensor
    constraint: Tensor
    jacobian: Tensor
    multipliers: Tensor

    @classmethod
    def at(cls, program: NodeProgram, y: Tensor) -> _Point:
        values, first = program.evaluate(y)
        multipliers = least_squares_multipliers(first.gradient, first.equality)
        return cls(
            y, values.objective, first.gradient, values.equality, first.equality, multipliers
        )

    @property
    def stationarity(self) -> Tensor:
        """∇_y L."""
        return self.gradient + (self.jacobian.mT @ self.multipliers.unsqueeze(-1)).squeeze(-1)

    @property
    def residuals(self) -> Tensor:
        """‖∇_y L‖_∞ and ‖h‖_∞, ``(batch, 2)``."""
        return torch.stack([largest(self.stationarity), largest(self.constraint)], -1)


@dataclass(frozen=True)
class _Merit:
    """φ = f + ρ‖h‖₁ and its slope along the step (Nocedal and Wright 2006, eq. 18.27 to 18.36)."""

    penalty: Tensor
    slope: Tensor

    @classmethod
    def along(cls, point: _Point, hessian: Tensor, direction: Tensor, target: Tensor) -> _Merit:
        descent = (point.gradient * direction).sum(-1)
        violation = point.constraint.abs().sum(-1)
        if point.constraint.shape[-1] == 0:
            return cls(torch.zeros_like(descent), descent)
        curvature = (direction * (hessian @ direction.unsqueeze(-1)).squeeze(-1)).sum(-1)
        needed = (
            2
            * (descent + curvature.clamp_min(0) / 2)
            / violation.clamp_min(torch.finfo(violation.dtype).tiny)
        )
        penalty = torch.maximum(2 * target.abs().amax(-1), torch.where(violation > 0, needed, 0))
        return cls(penalty, descent - penalty * violation)

    def value(self, objective: Tensor, constraint: Tensor) -> Tensor:
        return objective + self.penalty * constraint.abs().sum(-1)


@dataclass(frozen=True)
class _Scale:
    """Size of the terms that cancel in ∇_y L and in h: rounding errors are ε times these."""

    stationarity: Tensor
    feasibility: Tensor

    @classmethod
    def at(cls, point: _Point, hessian: Tensor, floor: Tensor) -> _Scale:
        size = point.y.abs().unsqueeze(-1)
        transposed = point.jacobian.abs().mT @ point.multipliers.abs().unsqueeze(-1)
        terms = [
            point.gradient.abs().amax(-1),
            (hessian.abs() @ size).amax((-2, -1)),
            transposed.amax((-2, -1)),
            floor,
        ]
        constraint = point.jacobian.abs() @ size
        feasibility = constraint.amax((-2, -1)) if constraint.shape[-2] else torch.ones_like(floor)
        return cls(torch.stack(terms).amax(0), feasibility)

    def is_infeasible(self, point: _Point) -> Tensor:
        """Whether ‖h‖₂ or ‖h‖₁ is stationary, Aᵀh = 0 or Aᵀ sign(h) = 0, and h is not zero."""
        result = torch.zeros_like(self.stationarity, dtype=torch.bool)
        if point.constraint.shape[-1] == 0:
            return result
        eps = torch.finfo(point.y.dtype).eps
        for weights in (point.constraint.unsqueeze(-1), point.constraint.sign().unsqueeze(-1)):
            descent = (point.jacobian.mT @ weights).abs().amax((-2, -1))
            terms = (point.jacobian.abs().mT @ weights.abs()).amax((-2, -1))
            result = result | ((terms > 0) & (descent <= eps**0.5 * terms))
        violation = _ratio(point.constraint.abs().amax(-1), self.feasibility)
        infeasible: Tensor = result & (violation > eps**0.25)
        return infeasible

    def error(self, point: _Point) -> Tensor:
        return self.relative(point.residuals)

    def relative(self, residuals: Tensor) -> Tensor:
        """The larger one of both residuals on this scale."""
        stationarity, feasibility = residuals.unbind(-1)
        return torch.maximum(
            _ratio(stationarity, self.stationarity), _ratio(feasibility, self.feasibility)
        )


def _ratio(value: Tensor, size: Tensor) -> Tensor:
    return torch.where(value == 0, 0, value / torch.where(size > 0, size, 1))


def _normal_step(jacobian: Tensor, constraint: Tensor) -> Tensor:
    """The shortest d with A d = −h."""
    solution, _ = solve_symmetric(jacobian @ jacobian.mT, -constraint.unsqueeze(-1))
    step: Tensor = jacobian.mT @ solution
    return step.squeeze(-1)
