"""Gradients through steps of a fixed-point method, started at the solution.

A map T(x, y) with T(x, y(x)) = y(x) that contracts at rate ρ gives, after N steps from the (constant)
solution,

    dy_N/dx = Σ_{k<N} (∂T/∂y)^k ∂T/∂x  →  (I − ∂T/∂y)⁻¹ ∂T/∂x = dy/dx,        error O(ρ^N) :

no linear system is solved, and the error is known in advance. All N steps are differentiated by autograd; for
N = 1 that is the one-step derivative of Bolte, Pauwels and Vaiter (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddn.engine import ImplicitEngine
from ddn.errors import SignatureError
from ddn.forward_mode import inside_transform
from ddn.generic import generic_vector
from ddn.implicit import StationaryPoint
from ddn.kkt.dense import Dense
from ddn.lagrangian import Lagrangian
from ddn.optimality import acceptable_residual
from ddn.problem import Problem
from ddn.solution import SolvedProblem
from ddn.solvers.base import Solver, as_blocks

__all__ = ["OneStepGradient", "UnrolledGradient"]

_POWER_ITERATIONS = 20


@dataclass(frozen=True)
class UnrolledGradient:
    """The derivative of ``steps`` steps of a fixed-point method, started at the solution.

    The method is the node's own ``iteration``, if it has one, else a projected gradient step on the
    active constraints A (Nocedal and Wright 2006, eq. 18.9 with the Hessian L I in place of H),

        y ← y − (∇f + Aᵀμ)/L,        μ = (A Aᵀ)⁻¹ (L c − A ∇f),

    with L the largest curvature of the Lagrangian along the constraints, from power iterations. Its
    error is (1 − 1/c)^steps for a problem of condition number c there. The value is the solution that the
    solver found, to all its digits; derivatives of every order are those of the steps, which for second
    order converge more slowly than for first. With an own ``iteration`` the multipliers are constants.

    Memory grows with the number of steps.

    Attributes:
        steps: N ≥ 1.
    """

    steps: int = 100
    is_exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.steps >= 1:
            raise ValueError(f"steps is an integer ≥ 1, but was given {self.steps!r}.")

    def solve(
        self, problem: Problem, solver: Solver, operands: Sequence[Tensor], on_failure: str
    ) -> SolvedProblem:
        """The solution, differentiable through the steps."""
        engine = ImplicitEngine(problem, solver, Dense(), on_failure)
        constants = [operand.detach() for operand in operands]
        solved = SolvedProblem(*StationaryPoint.apply(engine, *constants))
        if problem.node.iteration is not None:
            y, multipliers = self._own_steps(problem, solved, operands), solved.multipliers
        else:
            y, multipliers = self._projected_steps(problem, solved, operands, constants)
        # The value is the solver's; the steps only carry the derivative.
        return SolvedProblem(
            solved.y + (y - y.detach()),
            solved.multipliers + (multipliers - multipliers.detach()),
            *list(vars(solved).values())[2:],
        )

    def _own_steps(
        self, problem: Problem, solved: SolvedProblem, operands: Sequence[Tensor]
    ) -> Tensor:
        def iteration(y: Tensor, *operands: Tensor) -> Tensor:
            return problem.join(as_blocks(problem.call("iteration", operands, *problem.split(y))))

        y = solved.y
        for step in range(self.steps):
            y = problem.vectorize(iteration, (1,), (y,), operands)
            if step == 0 and not inside_transform():
                _check_fixed_point(problem, solved.y, y)
        return y

    def _projected_steps(
        self,
        problem: Problem,
        solved: SolvedProblem,
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        p = solved.multipliers.shape[-1] - solved.active.shape[-1]
        held = torch.cat([solved.active.new_ones(*solved.y.shape[:-1], p), solved.active], -1)
        curvature = _largest_curvature(problem, solved, held, constants).unsqueeze(-1)
        y, multipliers = solved.y, solved.multipliers
        for _ in range(self.steps):
            y, multipliers = _projected_step(problem, y, held, curvature, operands)
        return y, multipliers


@dataclass(frozen=True)
class OneStepGradient:
    """The derivative of one step of a fixed-point method at the solution (Bolte, Pauwels and Vaiter 2023).

    As cheap as one evaluation of the step, with the error of its contraction rate: exact for the last
    step of Newton's method, useless for a method that barely moves. See :class:`UnrolledGradient`, with
    ``steps=1``, for what a step is.
    """

    is_exact: ClassVar[bool] = False

    def solve(
        self, problem: Problem, solver: Solver, operands: Sequence[Tensor], on_failure: str
    ) -> SolvedProblem:
        """The solution, differentiable through one step."""
        return UnrolledGradient(steps=1).solve(problem, solver, operands, on_failure)


def _projected_step(
    problem: Problem, y: Tensor, held: Tensor, curvature: Tensor, operands: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    gradient = problem.gradient(y, operands)
    if not problem.is_constrained:
        return y - gradient / curvature, y.new_zeros(*y.shape[:-1], 0)
    jacobian, factor = _held_rows(problem, y, held, operands)
    value = torch.where(held, problem.constraints(y, operands), 0)
    right = curvature * value - (jacobian @ gradient.unsqueeze(-1)).squeeze(-1)
    multipliers = torch.cholesky_solve(right.unsqueeze(-1), factor)
    step = gradient + (jacobian.mT @ multipliers).squeeze(-1)
    return y - step / curvature, multipliers.squeeze(-1)


def _held_rows(
    problem: Problem, y: Tensor, held: Tensor, operands: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """A with rows of zeros where nothing is held, and a Cholesky factor of A Aᵀ."""
    jacobian = torch.where(held.unsqueeze(-1), problem.constraint_jacobian(y, operands), 0)
    gram = jacobian @ jacobian.mT
    size = gram.detach().diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True)
    # Repeated constraints share their multiplier: a ridge at the level of rounding.
    ridge = 10 * gram.shape[-1] * torch.finfo(gram.dtype).eps * size
    diagonal = torch.where(held, ridge, torch.where(size > 0, size, 1))
    factor, _ = torch.linalg.cholesky_ex(gram + torch.diag_embed(diagonal))
    return jacobian, factor


def _largest_curvature(
    problem: Problem, solved: SolvedProblem, held: Tensor, operands: Sequence[Tensor]
) -> Tensor:
    """Largest |eigenvalue| of the Hessian of L along the constraints, with a margin, ``(*batch,)``."""
    y, multipliers, active = (
        value.detach() for value in (solved.y, solved.multipliers, solved.active)
    )
    lagrangian = Lagrangian(problem)
    zeros = torch.zeros_like(multipliers)
    project = _projection(problem, y, held, operands)
    vector = project(generic_vector(y).expand_as(y))
    size = vector.norm(dim=-1, keepdim=True)
    for _ in range(_POWER_ITERATIONS):
        vector = vector / torch.where(size > 0, size, 1)
        product, _ = lagrangian.kkt_product(y, multipliers, active, operands, (vector, zeros))
        vector = project(product)
        size = vector.norm(dim=-1, keepdim=True)
    size = size.squeeze(-1).detach()
    # Power iterations come from below; where nothing is free or curved, any step length will do.
    return torch.where(size > 0, 1.1 * size, 1)


def _projection(
    problem: Problem, y: Tensor, held: Tensor, operands: Sequence[Tensor]
) -> Callable[[Tensor], Tensor]:
    if not problem.is_constrained:
        return lambda vector: vector
    jacobian, factor = _held_rows(problem, y, held, operands)

    def project(vector: Tensor) -> Tensor:
        normal = torch.cholesky_solve(jacobian @ vector.unsqueeze(-1), factor)
        return vector - (jacobian.mT @ normal).squeeze(-1)

    return project


def _check_fixed_point(problem: Problem, y: Tensor, moved: Tensor) -> None:
    distance = (moved - y).detach().abs().amax(-1)
    far = distance > acceptable_residual(y.dtype) * y.detach().abs().amax(-1)
    if bool(far.any()):
        raise SignatureError(
            f"{type(problem.node).__name__}.iteration moves the solution by up to "
            f"{float(distance.max()):.1e}: the solution must be its fixed point, or the derivative "
            "through its steps is that of something else. Check `iteration` against `objective` and "
            "the constraints."
        )
