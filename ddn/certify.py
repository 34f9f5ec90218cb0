"""The hypotheses of the implicit function theorem, measured at a point."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddn.certificate import Certificate
from ddn.errors import DeclarativeNodeError
from ddn.generic import generic_vector
from ddn.kkt.dense import assemble
from ddn.kkt.reduced import ReducedSystem
from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem
from ddn.lagrangian import Lagrangian
from ddn.linear_solve import equilibrate
from ddn.optimality import acceptable_residual, largest, relative_to
from ddn.problem import Problem
from ddn.verification import VerifiedSolution

__all__ = ["certify", "require_feasible_size"]

# Above this, the dense matrices of one problem would not fit any memory worth the name.
_MAX_SIZE = 8000


def require_feasible_size(problem: Problem) -> None:
    """Raise DeclarativeNodeError if a dense matrix of the problem's size is out of reach."""
    m = problem.num_variables
    if m > _MAX_SIZE:
        raise DeclarativeNodeError(
            f"{type(problem.node).__name__}: a certificate needs eigenvalues of dense matrices, which for "
            f"{m} variables are out of reach (limit {_MAX_SIZE}). Certify a smaller problem of the same "
            "kind; residuals and status are in node.solution(...)."
        )


@torch.no_grad()
def certify(
    problem: Problem,
    found: VerifiedSolution,
    operands: Sequence[Tensor],
    linear_solver: KKTSolver,
) -> Certificate:
    """Measure the hypotheses of the implicit function theorem at a point.

    Args:
        problem: the problem of the node.
        found: the point, as the engine has verified it.
        operands: inputs and captured tensors.
        linear_solver: of the gradient; its residual is measured.
    """
    y, multipliers, optimality = found.y, found.multipliers, found.optimality
    system = KKTSystem(Lagrangian(problem), y, multipliers, optimality.active, operands)
    reduced = system.reduced().significant(system)
    finite = reduced.hessian.isfinite().flatten(-2).all(-1)
    finite = finite & reduced.jacobian.isfinite().flatten(-2).all(-1)
    factorization = linear_solver.factorize(system)
    rank, curvature, condition, scale = _spectra(
        reduced, system.hessian_terms(reduced.hessian), finite
    )
    # Far from any solution, the step is long for a better reason.
    near = (optimality.residuals <= acceptable_residual(y.dtype)).all(0)
    unresolved = near & (curvature < torch.inf) & ~_is_resolved(system, factorization)
    curvature = torch.where(unresolved, curvature.clamp_max(0), curvature)
    return Certificate(
        status=found.status,
        stationarity=optimality.stationarity,
        primal_feasibility=optimality.primal_feasibility,
        dual_feasibility=optimality.dual_feasibility,
        complementarity=optimality.complementarity,
        linear_residual=_linear_residual(system, reduced, scale, factorization, finite),
        num_active=(~reduced.padding).sum(-1),
        num_weakly_active=optimality.weakly_active.sum(-1),
        rank=rank,
        curvature=curvature,
        condition=condition,
        name=type(problem.node).__name__,
    )


def _spectra(
    reduced: ReducedSystem, terms: Tensor, finite: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rank, curvature and condition of the equilibrated system, ``(*batch,)`` each, and its scaling."""
    where = finite[..., None, None]
    hessian = torch.where(where, reduced.hessian, 0)
    jacobian = torch.where(where, reduced.jacobian, 0)
    m, k = hessian.shape[-1], jacobian.shape[-2]
    eps = torch.finfo(hessian.dtype).eps
    matrix = assemble(hessian, jacobian, reduced.padding.to(hessian.dtype))
    scale = equilibrate(matrix, m)
    left, right = scale[..., :m].unsqueeze(-1), scale[..., m:].unsqueeze(-1)
    jacobian = right * jacobian * left.mT
    hessian = left * hessian * left.mT

    _, values, vectors = torch.linalg.svd(jacobian, full_matrices=True)
    largest = values.amax(-1, keepdim=True) if k else values
    rank = (values > eps**0.5 * largest).sum(-1)
    # Directions in the range of Jᵀ are lifted out of the way; what is left is the reduced Hessian.
    free = torch.arange(m, device=rank.device) >= rank.unsqueeze(-1)
    both = free.unsqueeze(-1) & free.unsqueeze(-2)
    projected = torch.where(both, vectors @ hessian @ vectors.mT, 0)
    # Digits that cancelled between objective and constraints are lost: they count, too.
    size = (left * torch.where(where, terms, 0) * left.mT).amax((-2, -1))
    lifted = torch.diag_embed((~free).to(hessian.dtype))
    # Twice the largest possible eigenvalue lies above the whole spectrum.
    above = 2 * m * torch.where(size > 0, size, 1)
    smallest = torch.linalg.eigvalsh(projected + above[..., None, None] * lifted)[..., 0]
    curvature = torch.where(size > 0, smallest / torch.where(size > 0, size, 1), 0)
    curvature = torch.where(rank == m, torch.inf, curvature)

    eigenvalues = torch.linalg.eigvalsh(scale.unsqueeze(-1) * matrix * scale.unsqueeze(-2)).abs()
    condition = eigenvalues.amax(-1) / eigenvalues.amin(-1)
    condition = torch.where(condition * eps * (m + k) >= 1, torch.inf, condition)
    curvature = torch.where(finite, curvature, torch.nan)
    condition = torch.where(finite, condition, torch.inf)
    return torch.where(finite, rank, -1), curvature, condition, scale


def _is_resolved(system: KKTSystem, factorization: KKTFactorization) -> Tensor:
    """Whether K is the same, to a tenth, at the point that one more Newton step leads to.

    Where it is not, the distance to the solution is as large as that over which K changes, and the
    curvature at the point says nothing about that at the solution: so it is at minima of higher order,
    such as y⁴ (the condition of Newton and Kantorovich; Nocedal and Wright 2006, section 11.1).
    """
    first, second = system.lagrangian.stationarity(
        system.y, system.multipliers, system.active, system.operands
    )
    step, change, _ = factorization.solve(-first, -second)
    direction = (generic_vector(system.y).expand_as(system.y), torch.zeros_like(second))
    before = system.product(*direction)
    after = system.lagrangian.kkt_product(
        system.y + step,
        system.multipliers + change,
        system.active,
        system.operands,
        direction,
    )
    moved = [largest(a - b) <= 0.1 * largest(b) for a, b in zip(after, before, strict=True)]
    return moved[0] & moved[1]


def _linear_residual(
    system: KKTSystem,
    reduced: ReducedSystem,
    scale: Tensor,
    factorization: KKTFactorization,
    finite: Tensor,
) -> Tensor:
    """Backward error of K w = (v, 0) for a generic v: |K w − r| relative to |r| + |w|, equilibrated."""
    right = generic_vector(system.y).expand_as(system.y)
    zeros = torch.zeros_like(system.multipliers)
    u, s, failed = factorization.solve(right, zeros)
    kept = torch.where(reduced.padding, 0, s.gather(-1, reduced.rows))
    w = torch.cat([u, kept], -1)
    matrix = assemble(reduced.hessian, reduced.jacobian, reduced.padding.to(u.dtype))
    right = torch.cat([right, torch.zeros_like(kept)], -1)
    error = scale * ((matrix @ w.unsqueeze(-1)).squeeze(-1) - right)
    size = largest(scale * right) + largest(w / scale)
    residual = relative_to(largest(error), size).nan_to_num(torch.inf)
    return torch.where(failed | ~finite, torch.inf, residual)
