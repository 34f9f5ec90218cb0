"""Primal-dual interior-point method, for smooth problems with inequalities or bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.optimality import acceptable_residual, largest
from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.barrier.iterate import Sizes
from ddn.solvers.barrier.memory import Limits, Outcome
from ddn.solvers.barrier.program import NodeProgram, fixed_variables
from ddn.solvers.barrier.quadratic import solve_quadratic
from ddn.solvers.barrier.rescue import rescue
from ddn.solvers.barrier.resume import resume
from ddn.solvers.barrier.run import iterate
from ddn.solvers.barrier.start import Start, first_iterate, in_units_of_the_data, inside_bounds

__all__ = ["InteriorPoint"]


@dataclass(frozen=True)
class InteriorPoint:
    """Primal-dual interior-point method for

        argmin_y f(x, y)   subject to   h(x, y) = 0,   g(x, y) ≤ 0,

    bounds being rows of g. Every problem of the batch is independent, and no result depends on the units
    of f, of y or of the rows of h and g.

    Inequalities get slacks, g + s = 0 with s > 0, so that the start may violate them; bounds hold from the
    start on. Steps solve the conditions ν_i s_i = κ of the central path with κ → 0 (predictor and
    corrector), with H shifted where it has negative curvature. They are taken if they reduce the
    optimality error, else shortened until they reduce a merit function; a point where something is not
    finite is never taken. Once it is clear which inequalities are active, Newton's method on these
    makes the solution exact to rounding, with ν_i exactly zero elsewhere. Problems that fail are solved
    with elastic constraints, which tells infeasible ones from those whose feasible set has no interior.
    (Mehrotra 1992; Wächter and Biegler 2006; Nocedal and Wright 2006, ch. 19.)

    Attributes:
        max_iterations: per problem.
        tolerance: relative optimality error at which a problem counts as solved; None means ε^(2/3) of the
            dtype, or √ε where no step leads further.
        barrier: κ; if positive, the result is the point of the central path with ν_i (−g_i) = κ for all
            rows. It exists if the feasible set has an interior.
    """

    max_iterations: int = 200
    tolerance: float | None = None
    barrier: float = 0.0

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives.

        Args:
            problem: the problem.
            operands: inputs and captured tensors.
            warm_start: with multipliers, it tells which inequalities were active: if they still are, Newton's
                method on these is all that is left to do. Other problems start as without it: for an
                interior-point method, the solution of another problem is a bad start.
        """
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch(operands)
        if problem.is_quadratic and not self.barrier:
            found = self._solve_quadratic(problem, flat, batch.numel(), warm_start)
        else:
            found = self._solve_general(problem, flat, batch.numel(), warm_start)
        assert found.multipliers is not None
        return SolverResult(
            found.y.reshape(*batch, found.y.shape[-1]),
            found.multipliers.reshape(*batch, found.multipliers.shape[-1]),
            found.status.reshape(batch),
            found.iterations.reshape(batch),
        )

    def _solve_quadratic(
        self, problem: Problem, flat: list[Tensor], size: int, warm_start: WarmStart | None
    ) -> SolverResult:
        """By the matrices of the problem; what they do not solve goes to the general method."""
        limits = self._limits(torch.float64)
        found = solve_quadratic(problem, flat, size, limits, warm_start)
        left = (found.status == Status.MAX_ITERATIONS).nonzero().squeeze(-1)
        if len(left):
            rest = self._solve_general(problem, problem.select(flat, left), len(left), None)
            assert found.multipliers is not None
            assert rest.multipliers is not None
            found.y[left], found.multipliers[left] = rest.y, rest.multipliers
            found.status[left] = rest.status
            found.iterations[left] += rest.iterations
        return found

    def _solve_general(
        self, problem: Problem, flat: list[Tensor], size: int, warm_start: WarmStart | None
    ) -> SolverResult:
        """By automatic differentiation, for operands with one batch dimension or none."""
        y = problem.starting_point(flat).expand(size, -1).clone()
        bounds = None
        if problem.has_bounds:
            bounds = torch.stack(problem.bounds(flat), -2).expand(len(y), 2, y.shape[-1])
        program = NodeProgram(problem, flat, bounds, y)
        if self.barrier and warm_start is not None:
            y = warm_start.y.reshape(y.shape)
        elif problem.node.starting_point is None:
            y = in_units_of_the_data(program, y)
        if bounds is not None:
            y = inside_bounds(y, bounds)
            warm_start = _clamped(warm_start, bounds)
        outcome = self._run(program, first_iterate(program, y, self.barrier), warm_start)
        if bounds is not None:
            outcome = self._with_bounds(problem, flat, bounds, outcome)
        point = outcome.point
        multipliers = torch.cat([point.equality, point.inequality], -1)
        return SolverResult(point.y, multipliers, outcome.status, outcome.iterations)

    def _run(self, program: NodeProgram, start: Start, warm_start: WarmStart | None) -> Outcome:
        limits = self._limits(start.extent.dtype)
        if self.barrier:
            return self._on_the_path(program, start, iterate(program, start, limits))
        if warm_start is None or warm_start.multipliers is None:
            return rescue(program, start, iterate(program, start, limits), limits)
        outcome, left = resume(program, start, warm_start, limits)
        if len(left):
            rest, first = program.select(left), start.select(left)
            outcome.put(left, rescue(rest, first, iterate(rest, first, limits), limits))
        return outcome

    def _limits(self, dtype: torch.dtype) -> Limits:
        eps = torch.finfo(dtype).eps
        tolerance = eps ** (2 / 3) if self.tolerance is None else self.tolerance
        return Limits(self.max_iterations, tolerance, max(tolerance, eps**0.5), self.barrier)

    def _on_the_path(self, program: NodeProgram, start: Start, outcome: Outcome) -> Outcome:
        """ν_i = κ/(−g_i) to rounding, and what that leaves of the other conditions."""
        g = outcome.point.values.inequality
        point = replace(outcome.point, slack=-g, inequality=self.barrier / -g)
        hessian = program.hessian(point.y, point.equality, point.inequality)
        sizes = Sizes.at(point, hessian, start.extent, start.floor)
        h = largest(point.values.equality / sizes.equality.clamp_min(torch.finfo(g.dtype).tiny))
        error = torch.maximum(sizes.stationarity(point), h)
        # −g is known to ε times its terms, and ν to no more.
        rounding = 10 * torch.finfo(g.dtype).eps * sizes.inequality / point.slack
        uncertain = largest(point.inequality * sizes.rows * rounding) / sizes.force
        limit = self._limits(g.dtype).acceptable + uncertain.clamp_max(acceptable_residual(g.dtype))
        holds = (g < 0).all(-1) & (error <= limit)
        claimed = outcome.status == Status.CONVERGED
        outcome.status = torch.where(claimed & ~holds, int(Status.STALLED), outcome.status)
        outcome.point = point.where(holds, outcome.point)
        return outcome

    def _with_bounds(
        self, problem: Problem, operands: list[Tensor], bounds: Tensor, outcome: Outcome
    ) -> Outcome:
        """Multipliers of variables whose bounds agree, and what follows from bounds alone."""
        fixed, (lower, upper) = fixed_variables(bounds), bounds.unbind(-2)
        status, point = outcome.status, outcome.point
        empty = ((lower > upper) | (lower == torch.inf) | (upper == -torch.inf)).any(-1)
        outcome.status = torch.where(empty, int(Status.INFEASIBLE), status)
        if not bool(fixed.any()):
            return outcome
        if self.barrier:
            failed = fixed.any(-1) & (outcome.status == Status.CONVERGED)
            outcome.status = torch.where(failed, int(Status.STALLED), outcome.status)
            return outcome
        # ∇_y L = 0 with ν of the two bounds of opposite sign.
        stated = problem.stated_jacobian(point.y, operands)
        multipliers = torch.cat([point.equality, point.inequality], -1)[:, : stated.shape[-2]]
        force = problem.gradient(point.y, operands) + (multipliers.unsqueeze(-2) @ stated).squeeze(
            -2
        )
        pair = torch.stack([force.clamp_min(0), (-force).clamp_min(0)], -2)
        rest = point.inequality.shape[-1] - 2 * point.y.shape[-1]
        known = point.inequality[:, rest:].unflatten(-1, (2, -1))
        pair = torch.where(fixed.unsqueeze(-2), pair, known).flatten(-2)
        inequality = torch.cat([point.inequality[:, :rest], pair], -1)
        outcome.point = replace(point, inequality=inequality)
        return outcome


def _clamped(warm_start: WarmStart | None, bounds: Tensor) -> WarmStart | None:
    """A warm start within the bounds ``(batch, 2, m)``: outside, the objective may be undefined."""
    if warm_start is None:
        return None
    lower, upper = (side.reshape(warm_start.y.shape) for side in bounds.unbind(-2))
    y = torch.minimum(torch.maximum(warm_start.y, lower), upper)
    return replace(warm_start, y=y)
