"""What a solver returns for a problem on a manifold, measured without constraints.

A point is a solution if it lies on the manifold and the gradient has no part along it. A projection to the
tangent space means something at points of the manifold only: the distance from it comes first, where it is
known how. A function on a quotient manifold takes one value for all representatives of a point, which the
gradient shows, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddn.engine import failure_message
from ddn.errors import SignatureError
from ddn.failure import apply_policy
from ddn.forward_mode import own_memory
from ddn.generic import generic_signs
from ddn.multipliers import least_squares_multipliers
from ddn.optimality import acceptable_residual, largest
from ddn.problem import Problem
from ddn.solution import Status
from ddn.solvers.base import Solver
from ddn.solvers.manifolds import as_parts, as_point, nearest_point, require_shapes, vertical_part

__all__ = ["OnManifold", "blocks_of", "hessian_product", "project", "slope_of", "solve_on_manifold"]


@dataclass(frozen=True)
class OnManifold:
    """What a solver has found, measured.

    Attributes:
        y: ``(*batch, m)``.
        multipliers: λ of constraints that state the manifold again, ``(*batch, p)``.
        status: integers of :class:`ddn.Status`, ``(*batch,)``.
        iterations: of the solver, ``(*batch,)``.
        stationarity: size of the Riemannian gradient beside its terms, ``(*batch,)``.
        feasibility: distance from the manifold relative to the size of y, ``(*batch,)``.
    """

    y: Tensor
    multipliers: Tensor
    status: Tensor
    iterations: Tensor
    stationarity: Tensor
    feasibility: Tensor


@torch.no_grad()
def solve_on_manifold(
    problem: Problem, manifold: Any, solver: Solver, operands: Sequence[Tensor], on_failure: str
) -> OnManifold:
    """Solve and measure; what is no solution follows ``on_failure``."""
    result = solver.solve(problem, operands)
    claimed = result.status == Status.CONVERGED
    flat = problem.flatten_batch(operands)
    y = result.y.reshape(-1, problem.num_variables)
    rows = problem.equality(result.y, operands).shape[-1]
    residuals = y.new_full((len(y), 2), torch.nan)
    multipliers = y.new_zeros(len(y), rows)
    for index in claimed.reshape(-1).nonzero().squeeze(-1).tolist():
        if bool(y[index].isfinite().all()):
            single = problem.select(flat, torch.tensor(index, device=y.device))
            residuals[index], multipliers[index] = _measure(problem, manifold, y[index], single)
    stationarity, feasibility = residuals.reshape(*result.status.shape, 2).unbind(-1)
    limit = acceptable_residual(y.dtype)
    status = result.status
    status = torch.where(claimed & ~(stationarity <= limit), int(Status.NOT_STATIONARY), status)
    status = torch.where(claimed & ~(feasibility <= limit), int(Status.INFEASIBLE), status)
    finite = stationarity.isfinite() & feasibility.isfinite()
    status = torch.where(claimed & ~finite, int(Status.NOT_FINITE), status)
    y, multipliers = apply_policy(
        on_failure,
        status != Status.CONVERGED,
        lambda: _message(problem, manifold, solver, status),
        (result.y, multipliers.reshape(*result.status.shape, rows)),
    )
    y, multipliers = own_memory((y, multipliers))
    return OnManifold(y, multipliers, status, result.iterations, stationarity, feasibility)


def _message(problem: Problem, manifold: Any, solver: Solver, status: Tensor) -> str:
    message = failure_message(problem, solver, status)
    if not bool((status == Status.INFEASIBLE).any()):
        return message
    return (
        f"{message}\n  What is returned is not on the manifold ({manifold}): use a solver that stays on it, "
        "ddn.solvers.Pymanopt, or state it by `equality`."
    )


def _measure(
    problem: Problem, manifold: Any, y: Tensor, operands: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Size of the Riemannian gradient beside its terms, distance from the manifold, and λ."""
    unknown = torch.zeros_like(problem.equality(y, operands))
    slope = problem.gradient(y, operands)
    if not bool(slope.isfinite().all()):
        return y.new_full((2,), torch.nan), unknown
    point, vector = blocks_of(problem, y), blocks_of(problem, slope)
    require_shapes(problem, manifold, as_point(manifold, point))
    limit = acceptable_residual(y.dtype)
    # Projections to a tangent space mean something at points of the manifold only.
    distance = _distance(manifold, point)
    if distance > limit:
        return y.new_tensor([0.0, distance]), unknown
    along = float(np.linalg.norm(project(manifold, point, vector)))
    with torch.enable_grad():
        curved = hessian_product(problem, y, generic_signs(y) * largest(y), operands)
    size = max(float(slope.norm()), float(curved.norm()))
    _require_constant_on_fibres(problem, manifold, point, vector, limit * size)
    multipliers, violation = _multipliers(problem, manifold, y, slope, operands)
    return y.new_tensor([along / size if size else 0.0, max(distance, violation)]), multipliers


def _distance(manifold: Any, point: list[np.ndarray]) -> float:
    """From the nearest point of the manifold, relative to its size; zero where that is not known."""
    distances = [0.0]
    for factor, block in zip(as_parts(manifold), point, strict=True):
        near = nearest_point(factor, block)
        if near is not None:
            distances.append(float(np.linalg.norm(near - block) / np.linalg.norm(near)))
    return max(distances)


def _multipliers(
    problem: Problem, manifold: Any, y: Tensor, slope: Tensor, operands: Sequence[Tensor]
) -> tuple[Tensor, float]:
    """λ of the constraints by which a node states its manifold, and how far they are violated.

    Raises:
        SignatureError: the constraints restrict y further.
    """
    value = problem.equality(y, operands)
    if not len(value):
        return value, 0.0
    jacobian = problem.stated_jacobian(y, operands)
    size = float(jacobian.norm(dim=-1).max())
    point = blocks_of(problem, y)
    along = max(
        float(np.linalg.norm(project(manifold, point, blocks_of(problem, row)))) for row in jacobian
    )
    if along > acceptable_residual(y.dtype) * size:
        raise SignatureError(
            f"{type(problem.node).__name__}.equality states more than the manifold ({manifold}) does, "
            "which RiemannianGradient does not treat. Use gradient=ddn.ImplicitGradient(), and a solver that "
            "treats constraints, such as ddn.solvers.Newton()."
        )
    length = size * float(y.norm())
    violation = float(value.norm()) / (length if length else 1.0)
    return least_squares_multipliers(slope, jacobian), violation


def _require_constant_on_fibres(
    problem: Problem, manifold: Any, point: list[np.ndarray], slope: list[np.ndarray], limit: float
) -> None:
    parts = as_parts(manifold)
    if max(vertical_part(*triple) for triple in zip(parts, point, slope, strict=True)) > limit:
        raise SignatureError(
            f"{type(problem.node).__name__}.objective takes different values for matrices Y and Y Q that are "
            f"one point here ({manifold}): it is no function on that manifold. State it by Y Yᵀ, or use a "
            "manifold of matrices, such as pymanopt.manifolds.Stiefel."
        )


def slope_of(value: Tensor, variable: Tensor) -> Tensor:
    """Gradient that is differentiable again; zero where the value depends on nothing."""
    if not value.requires_grad:
        return torch.zeros_like(variable)
    (slope,) = torch.autograd.grad(
        value, variable, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return slope


def hessian_product(
    problem: Problem, y: Tensor, direction: Tensor, operands: Sequence[Tensor]
) -> Tensor:
    """∂²f/∂y² times a direction."""
    variable = y.detach().requires_grad_()
    constants = [operand.detach() for operand in operands]
    slope = slope_of(problem.objective(variable, constants), variable)
    if not slope.requires_grad:
        return torch.zeros_like(y)
    (product,) = torch.autograd.grad(slope, variable, direction, materialize_grads=True)
    return product


def blocks_of(problem: Problem, vector: Tensor) -> list[np.ndarray]:
    """The solution blocks of a vector as arrays in float64."""
    return [block.detach().cpu().double().numpy() for block in problem.split(vector)]


def project(manifold: Any, point: list[np.ndarray], vector: list[np.ndarray]) -> np.ndarray:
    """Orthogonal projection onto the tangent or horizontal space, in the ambient space, ``(m,)``."""
    parts = []
    for factor, y, v in zip(as_parts(manifold), point, vector, strict=True):
        tangent = factor.projection(y, v)
        parts.append(np.ravel(factor.embedding(y, tangent)))
    return np.concatenate(parts)
