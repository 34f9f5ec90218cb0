"""What a solver returns, completed by multipliers and measured against the optimality conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.forward_mode import own_memory
from ddn.kkt.least_squares import multipliers_by_products
from ddn.kkt.system import KKTSystem
from ddn.lagrangian import Lagrangian
from ddn.multipliers import least_squares_multipliers, nonnegative_multipliers
from ddn.optimality import Optimality, Scales, acceptable_residual
from ddn.problem import Problem
from ddn.solution import SolverResult, Status
from ddn.solvers.base import Solver
from ddn.starting_point import generic_point

__all__ = ["VerifiedSolution", "solve_verified"]

# Multipliers are estimated without a Jacobian that would have more entries.
_MAX_ENTRIES = 2**24


@dataclass(frozen=True)
class VerifiedSolution:
    """What a solver found, with multipliers, active set and verified status.

    Attributes:
        y: ``(*batch, m)``.
        multipliers: μ = (λ, ν), ``(*batch, p + q)``; exactly zero for inactive inequalities.
        optimality: residuals and active set.
        status: integers of :class:`ddn.Status`, ``(*batch,)``.
        iterations: of the solver, ``(*batch,)``.
        system: the KKT system of all constraints at the point.
    """

    y: Tensor
    multipliers: Tensor
    optimality: Optimality
    status: Tensor
    iterations: Tensor
    system: KKTSystem


def solve_verified(
    problem: Problem,
    solver: Solver,
    operands: Sequence[Tensor],
    differentiated: tuple[int, ...] = (),
) -> VerifiedSolution:
    """Solve, complete the multipliers, and measure the optimality conditions.

    Args:
        problem: the problem of the node.
        solver: finds the solution.
        operands: inputs and captured tensors.
        differentiated: operands whose gradients the KKT system may be asked for.
    """
    with torch.no_grad():
        _check_symmetry(problem, operands)
        result = solver.solve(problem, operands)
        return _verify(problem, result, operands, differentiated)


def _verify(
    problem: Problem,
    result: SolverResult,
    operands: Sequence[Tensor],
    differentiated: tuple[int, ...],
) -> VerifiedSolution:
    """What is known about the point that a solver has returned."""
    (y,) = own_memory((result.y,))
    multipliers = result.multipliers
    scales = Scales.at(problem, y, operands)
    if multipliers is None:
        multipliers = _estimate_multipliers(problem, y, operands, scales)
    (multipliers,) = own_memory((multipliers,))
    q = scales.row_norms.shape[-1]
    everything = torch.ones_like(multipliers[..., multipliers.shape[-1] - q :], dtype=torch.bool)
    constants = [operand.detach() for operand in operands]
    # Detached: what is kept of it must not keep the graph that keeps it.
    system = KKTSystem(
        Lagrangian(problem),
        y.detach(),
        multipliers.detach(),
        everything,
        constants,
        differentiated,
    )
    optimality = Optimality.at(system, scales)
    if q:
        p = multipliers.shape[-1] - q
        nu = torch.where(optimality.active, multipliers[..., p:], 0)
        multipliers = torch.cat([multipliers[..., :p], nu], -1)
    residuals = optimality.residuals
    limit = acceptable_residual(y.dtype)
    solved, finite = (residuals <= limit).all(0), residuals.isfinite().all(0)
    claimed = result.status == Status.CONVERGED
    status = torch.where(claimed & ~solved, int(Status.NOT_STATIONARY), result.status)
    status = torch.where(~finite, int(Status.NOT_FINITE), status)
    return VerifiedSolution(y, multipliers, optimality, status, result.iterations, system)


def _estimate_multipliers(
    problem: Problem, y: Tensor, operands: Sequence[Tensor], scales: Scales
) -> Tensor:
    near = scales.relative_slack() <= acceptable_residual(y.dtype)
    rows = scales.constraint.shape[-1] - problem.num_bound_rows
    if y.numel() * rows > _MAX_ENTRIES:
        return multipliers_by_products(problem, y, scales.gradient, near, operands)
    jacobian = problem.stated_jacobian(y, operands)
    if not problem.has_inequality:
        return least_squares_multipliers(scales.gradient, jacobian)
    return nonnegative_multipliers(scales.gradient, jacobian, near, problem.has_bounds)


def _check_symmetry(problem: Problem, operands: Sequence[Tensor]) -> None:
    if not problem.has_equality:
        return
    deviation = problem.constraint_asymmetry(generic_point(problem, operands), operands)
    if deviation is not None:
        limit = torch.finfo(deviation.dtype).eps ** 0.5
        if bool((deviation > limit).any()):
            raise SignatureError(
                f"{type(problem.node).__name__}.equality marks a matrix as symmetric that is not: it "
                f"differs from its transpose by {float(deviation.max()):.1e} relative. Only its lower "
                "triangle would count. State all entries (without ddn.symmetric), or symmetrize the "
                "formula."
            )
