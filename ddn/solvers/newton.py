"""Newton's method on the KKT system, for smooth problems with equality constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt import assemble, least_squares_multipliers
from ddn.linear_solve import equilibrate, factorize
from ddn.problem import Problem
from ddn.solution import SolverResult, Status

__all__ = ["Newton"]

# Growth of the shift until the inertia is right (Wächter and Biegler 2006, section 3.1).
_FIRST_SHIFT, _GROWTH, _MAX_SHIFTS = 1e-4, 8.0, 24
_ARMIJO = 1e-4
# A Newton step that shrinks the optimality error this much is taken whatever the merit function says of
# it: near a solution the merit function rejects good steps (Maratos effect).
_SUFFICIENT_DECREASE = 0.5


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
        tolerance: relative optimality error at which a problem counts as solved; None means √ε of the
            dtype. Iterations go on below it as long as they still improve, so that solutions are as
            exact as the dtype allows.
    """

    max_iterations: int = 200
    max_halvings: int = 40
    tolerance: float | None = None

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        """Solve the batch, without derivatives."""
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch(operands)
        y = problem.starting_point(operands).reshape(-1, problem.num_variables)
        gradient = _objective_gradient(problem, y, flat)
        multipliers = least_squares_multipliers(gradient, problem.constraint_jacobian(y, flat))
        floor = torch.finfo(y.dtype).eps ** 0.5 * gradient.abs().amax(-1)
        status = torch.full(y.shape[:-1], int(Status.MAX_ITERATIONS), device=y.device)
        iterations = torch.zeros_like(status)
        running = torch.arange(len(y), device=y.device)
        for _ in range(self.max_iterations):
            new_y, new_multipliers, new_status = self._step(
                problem,
                problem.select(flat, running),
                y[running],
                multipliers[running],
                floor[running],
            )
            y[running], multipliers[running], status[running] = new_y, new_multipliers, new_status
            running = running[new_status == Status.MAX_ITERATIONS]
            if len(running) == 0:
                break
            iterations[running] += 1
        return SolverResult(
            y.reshape(*batch, y.shape[-1]),
            multipliers.reshape(*batch, multipliers.shape[-1]),
            status.reshape(batch),
            iterations.reshape(batch),
        )

    def _step(
        self,
        problem: Problem,
        operands: list[Tensor],
        y: Tensor,
        multipliers: Tensor,
        floor: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One iteration: new y and λ, and a status that is MAX_ITERATIONS while there is more to do."""
        tolerance = torch.finfo(y.dtype).eps ** 0.5 if self.tolerance is None else self.tolerance
        gradient = _objective_gradient(problem, y, operands)
        constraint = problem.equality(y, operands)
        hessian, jacobian = problem.kkt_blocks(y, multipliers, operands)
        scale = _Scale.at(gradient, hessian, jacobian, y, multipliers, floor)
        error = scale.error(gradient, constraint, jacobian, multipliers)
        direction, target, convex = _direction(gradient, constraint, hessian, jacobian)

        newton_y = y + direction
        newton_error = scale.error(
            _objective_gradient(problem, newton_y, operands),
            problem.equality(newton_y, operands),
            problem.constraint_jacobian(newton_y, operands),
            target,
        )
        newton = convex & (newton_error <= _SUFFICIENT_DECREASE * error)
        merit = _Merit.along(gradient, constraint, hessian, direction, target)
        step = self._line_search(problem, operands, y, direction, merit, skip=newton)
        step = torch.where(newton, 1, step).unsqueeze(-1)

        solved = convex & (error <= tolerance) & (~newton | (error == 0))
        finite = error.isfinite() & direction.isfinite().all(-1)
        status = torch.full_like(error, int(Status.MAX_ITERATIONS), dtype=torch.int64)
        status = torch.where(step.squeeze(-1) == 0, int(Status.STALLED), status)
        status = torch.where(~finite, int(Status.NOT_FINITE), status)
        status = torch.where(solved, int(Status.CONVERGED), status)
        step = torch.where((status == Status.MAX_ITERATIONS).unsqueeze(-1), step, 0)
        return (
            torch.where(step > 0, y + step * direction, y),
            torch.where(step > 0, multipliers + step * (target - multipliers), multipliers),
            status,
        )

    def _line_search(
        self,
        problem: Problem,
        operands: list[Tensor],
        y: Tensor,
        direction: Tensor,
        merit: _Merit,
        skip: Tensor,
    ) -> Tensor:
        """Step length per problem; 0 where no length decreases the merit function."""
        initial = merit.value(problem.objective(y, operands), problem.equality(y, operands))
        slack = 10 * torch.finfo(y.dtype).eps * initial.abs()
        length = torch.ones_like(initial)
        accepted = skip.clone()
        for _ in range(self.max_halvings):
            trial = y + length.unsqueeze(-1) * direction
            value = merit.value(
                problem.objective(trial, operands), problem.equality(trial, operands)
            )
            accepted |= value <= initial + _ARMIJO * length * merit.slope + slack
            if bool(accepted.all()):
                break
            length = torch.where(accepted, length, length / 2)
        return torch.where(accepted, length, 0)


@dataclass(frozen=True)
class _Merit:
    """φ = f + ρ‖h‖₁ and its slope along the step (Nocedal and Wright 2006, eq. 18.27 to 18.36)."""

    penalty: Tensor
    slope: Tensor

    @classmethod
    def along(
        cls,
        gradient: Tensor,
        constraint: Tensor,
        hessian: Tensor,
        direction: Tensor,
        target: Tensor,
    ) -> _Merit:
        descent = (gradient * direction).sum(-1)
        violation = constraint.abs().sum(-1)
        if constraint.shape[-1] == 0:
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
    def at(
        cls,
        gradient: Tensor,
        hessian: Tensor,
        jacobian: Tensor,
        y: Tensor,
        multipliers: Tensor,
        floor: Tensor,
    ) -> _Scale:
        size = y.abs().unsqueeze(-1)
        terms = [
            gradient.abs().amax(-1),
            (hessian.abs() @ size).amax((-2, -1)),
            floor.nan_to_num(0),
        ]
        if jacobian.shape[-2] == 0:
            return cls(torch.stack(terms).amax(0), torch.ones_like(floor))
        terms.append((jacobian.abs().mT @ multipliers.abs().unsqueeze(-1)).amax((-2, -1)))
        return cls(torch.stack(terms).amax(0), (jacobian.abs() @ size).amax((-2, -1)))

    def error(
        self, gradient: Tensor, constraint: Tensor, jacobian: Tensor, multipliers: Tensor
    ) -> Tensor:
        residual = gradient + (jacobian.mT @ multipliers.unsqueeze(-1)).squeeze(-1)
        error = _ratio(residual.abs().amax(-1), self.stationarity)
        if constraint.shape[-1] == 0:
            return error
        return torch.maximum(error, _ratio(constraint.abs().amax(-1), self.feasibility))


def _ratio(value: Tensor, size: Tensor) -> Tensor:
    return torch.where(value == 0, 0, value / torch.where(size > 0, size, 1))


def _objective_gradient(problem: Problem, y: Tensor, operands: list[Tensor]) -> Tensor:
    gradient: Tensor = torch.func.grad(lambda y: problem.objective(y, operands).sum())(y)
    return gradient


def _direction(
    gradient: Tensor, constraint: Tensor, hessian: Tensor, jacobian: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton step d, multipliers λ⁺, and whether H has no negative curvature on the null space of A.

    Solves [[H + δD, Aᵀ], [A, −γE]] (d, λ⁺) = (−∇f, −h), with the smallest δ of a geometric sequence
    for which the matrix has m positive and p negative eigenvalues; γ > 0 only where A is
    rank-deficient. D and E are the diagonal scaling of the equilibrated matrix.
    """
    m, p = jacobian.shape[-1], jacobian.shape[-2]
    matrix = assemble(hessian, jacobian)
    finite = matrix.isfinite().flatten(-2).all(-1)
    identity = torch.eye(m + p, dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(finite[:, None, None], matrix, identity)
    scale = equilibrate(matrix)
    scaled = matrix * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    right = (-torch.cat([gradient, constraint], -1) * scale).unsqueeze(-1)
    eps = torch.finfo(matrix.dtype).eps

    solution = torch.zeros_like(right)
    convex = torch.ones_like(finite)
    pending = torch.arange(len(matrix), device=matrix.device)
    shift = 0.0
    for attempt in range(_MAX_SHIFTS):
        signs = torch.ones(m + p, dtype=matrix.dtype, device=matrix.device)
        signs[m:] = -(eps**0.5) / shift if shift else 0
        factorization = factorize(scaled[pending] + torch.diag(shift * signs))
        blocks = factorization.block_eigenvalues()
        threshold = 10 * (m + p) * eps * blocks.abs().amax(-1, keepdim=True)
        negative = (blocks < -threshold).sum(-1)
        if attempt == 0:
            convex = negative <= p
        right_inertia = (negative == p) & (blocks.abs() > threshold).all(-1)
        step = factorization.solve(right[pending])
        residual = right[pending] - (scaled[pending] + torch.diag(shift * signs)) @ step
        solution[pending] = step + factorization.solve(residual)
        pending = pending[~right_inertia]
        if len(pending) == 0:
            break
        shift = shift * _GROWTH if shift else _FIRST_SHIFT
    solution = (solution.squeeze(-1)) * scale
    solution = torch.where(finite.unsqueeze(-1), solution, torch.nan)
    return solution[:, :m], solution[:, m:], convex & finite
