"""From operands to a verified solution: between a node and the functions that differentiate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import SignatureError, SingularSystemError
from ddn.failure import apply_policy, format_indices
from ddn.gradient import ImplicitGradient
from ddn.kkt import least_squares_multipliers
from ddn.problem import Problem, generic_vector
from ddn.solution import Status
from ddn.solvers.base import Solver

__all__ = ["ImplicitEngine", "acceptable_residual"]


@dataclass(frozen=True)
class ImplicitEngine:
    """Solves a problem, verifies the optimality conditions, and solves its KKT systems.

    Attributes:
        problem: the problem of the node, bound to shapes.
        solver: finds the solution.
        gradient: how to differentiate it.
        on_failure: what to do for problems that fail: "raise", "warn" or "nan".
    """

    problem: Problem
    solver: Solver
    gradient: ImplicitGradient
    on_failure: str

    def solve(self, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """y, λ, status, iterations, stationarity and feasibility of every problem."""
        with torch.no_grad():
            self._check_symmetry(operands)
            result = self.solver.solve(self.problem, operands)
            y, multipliers = result.y, result.multipliers
            gradient = torch.func.grad(lambda y: self.problem.objective(y, operands).sum())(y)
            if multipliers is None:
                jacobian = self.problem.constraint_jacobian(y, operands)
                multipliers = least_squares_multipliers(gradient, jacobian)
            residuals = _residuals(self.problem, y, multipliers, gradient, operands)
            status = _verify(result.status, *residuals)
            y, multipliers = apply_policy(
                self.on_failure,
                status != Status.CONVERGED,
                lambda: self._failure_message(status),
                (y, multipliers),
            )
        return y, multipliers, status, result.iterations, *residuals

    def solve_kkt(
        self,
        right_y: Tensor,
        right_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        operands: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """K⁻¹ applied to a right side; problems without a solution follow ``on_failure``."""
        with torch.no_grad():
            u, s, failed = self.gradient.linear_solver.solve(
                self.problem, y, multipliers, operands, right_y, right_multipliers
            )
        u, s = apply_policy(
            self.on_failure,
            failed,
            lambda: (
                f"{self._name}: the gradient is not defined for {format_indices(failed)}. The KKT "
                "matrix is singular there and the direction asked for lies outside its range: the "
                "solution is not unique, or its constraints are degenerate. Make the objective "
                "strictly convex in the free directions (a small proximal term does), or use "
                "on_failure='nan' to get NaN in exactly these problems."
            ),
            (u, s),
            SingularSystemError,
        )
        return u, s

    @property
    def _name(self) -> str:
        return type(self.problem.node).__name__

    def _check_symmetry(self, operands: Sequence[Tensor]) -> None:
        if not self.problem.has_equality:
            return
        deviation = self.problem.constraint_asymmetry(
            self.problem.generic_point(operands), operands
        )
        if deviation is not None:
            limit = torch.finfo(deviation.dtype).eps ** 0.5
            if bool((deviation > limit).any()):
                raise SignatureError(
                    f"{self._name}.equality marks a matrix as symmetric that is not: it differs from "
                    f"its transpose by {float(deviation.max()):.1e} relative. Only its lower triangle "
                    "would count. State all entries (without ddn.symmetric), or symmetrize the formula."
                )

    def _failure_message(self, status: Tensor) -> str:
        failed = status != Status.CONVERGED
        reasons = "; ".join(
            f"{format_indices(status == code)}: {Status(code).name}, {Status(code).remedy}"
            for code in sorted(set(status[failed].tolist()))
        )
        return (
            f"{self._name}: {int(failed.sum())} of {failed.numel()} problem(s) were not solved by "
            f"{type(self.solver).__name__}. {reasons}."
        )


def acceptable_residual(dtype: torch.dtype) -> float:
    """Largest relative residual of the optimality conditions that counts as solved.

    ε^(1/4), 1.2e-4 in float64: loose enough for first-order solvers, tight enough to tell a solution
    from a point that is none. The solvers of this package reach far smaller residuals.
    """
    return float(torch.finfo(dtype).eps ** 0.25)


def _residuals(
    problem: Problem,
    y: Tensor,
    multipliers: Tensor,
    gradient: Tensor,
    operands: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """‖∇_y L‖_∞ and ‖h‖_∞, each relative to the size of the terms that cancel in it.

    These are ∇f, Aᵀλ and a curvature term H e for stationarity, and A e for feasibility, with e the
    solution under generic factors (so that A y = 0 is not mistaken for a small scale): numbers that
    scale with the problem, so that the result does not depend on units.
    """
    stationarity, constraint = problem.stationarity(y, multipliers, operands)
    curvature, tangent = problem.kkt_product(
        y, multipliers, operands, (y * generic_vector(y), torch.zeros_like(multipliers))
    )
    # A solution near zero has no scale of its own: the gradient at the starting point lends one.
    start = problem.starting_point(operands)
    initial = torch.func.grad(lambda y: problem.objective(y, operands).sum())(start)
    floor = torch.finfo(y.dtype).eps ** 0.5 * _largest(initial).nan_to_num(0, 0, 0)
    terms = [floor, _largest(gradient), _largest(stationarity - gradient), _largest(curvature)]
    size = torch.stack(terms).amax(0)
    return (
        _relative(_largest(stationarity), size),
        _relative(_largest(constraint), torch.maximum(_largest(tangent), _largest(constraint))),
    )


def _verify(status: Tensor, stationarity: Tensor, feasibility: Tensor) -> Tensor:
    limit = acceptable_residual(stationarity.dtype)
    solved = (stationarity <= limit) & (feasibility <= limit)
    finite = stationarity.isfinite() & feasibility.isfinite()
    claimed = status == Status.CONVERGED
    status = torch.where(claimed & ~solved, int(Status.NOT_STATIONARY), status)
    return torch.where(~finite, int(Status.NOT_FINITE), status)


def _largest(vector: Tensor) -> Tensor:
    if vector.shape[-1] == 0:
        return vector.new_zeros(vector.shape[:-1])
    return vector.abs().amax(-1)


def _relative(value: Tensor, size: Tensor) -> Tensor:
    return torch.where(value == 0, 0, value / torch.where(size > 0, size, 1))
