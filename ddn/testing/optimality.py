"""Is the output of a node the solution of its problem?"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.engine import acceptable_residual
from ddn.problem import Problem
from ddn.solution import Solution, Status
from ddn.solvers.base import as_blocks
from ddn.solvers.newton import Newton
from ddn.testing.subject import Subject

__all__ = ["check_against_newton", "check_curvature", "check_stationarity"]

_CURVATURE = 1e-7
_OBJECTIVE = 1e-6


@torch.no_grad()
def check_stationarity(subject: Subject) -> str:
    """First-order optimality conditions, relative to the size of their terms."""
    solution = subject.node.solution(*subject.inputs)
    residual = max(float(solution.stationarity.max()), float(solution.feasibility.max()))
    if not residual <= acceptable_residual(torch.float64):
        raise AssertionError(f"relative residual of the optimality conditions {residual:.1e}")
    output = as_blocks(subject.node(*subject.inputs))
    same = all(
        torch.allclose(a, b, rtol=1e-6, atol=1e-9)
        for a, b in zip(output, as_blocks(solution.y), strict=True)
    )
    if not same:
        raise AssertionError("node(...) and node.solution(...).y differ")
    return f"relative residual {residual:.1e}"


@torch.no_grad()
def check_curvature(subject: Subject) -> str:
    """Second-order condition: no negative curvature of L on the null space of the constraints."""
    problem, operands, solution = _solve(subject)
    y = problem.join(as_blocks(solution.y))
    hessian, jacobian = problem.kkt_blocks(y, solution.equality_multipliers, operands)
    m = hessian.shape[-1]
    smallest, largest = float("inf"), float(hessian.abs().amax()) if hessian.numel() else 0.0
    count = hessian.shape[:-2].numel()
    blocks = hessian.reshape(count, m, m), jacobian.reshape(count, jacobian.shape[-2], m)
    for h, a in zip(*blocks, strict=True):
        _, values, right = torch.linalg.svd(a, full_matrices=True)
        size = float(values.max()) if len(values) else 0.0
        rank = int((values > 1e-10 * size).sum())
        basis = right[rank:].mT
        if basis.shape[1]:
            smallest = min(smallest, float(torch.linalg.eigvalsh(basis.mT @ h @ basis).min()))
    if smallest == float("inf"):
        return "the constraints determine the solution"
    if smallest < -_CURVATURE * largest:
        raise AssertionError(
            f"smallest eigenvalue of the reduced Hessian is {smallest:.2e}: the solution is a saddle "
            "point or a maximum"
        )
    return f"smallest eigenvalue of the reduced Hessian {smallest:.1e}"


@torch.no_grad()
def check_against_newton(subject: Subject) -> str:
    """The objective at the solution against the point that Newton's method finds."""
    problem, operands, solution = _solve(subject)
    y = problem.join(as_blocks(solution.y))
    result = Newton().solve(problem, operands)
    ours, other = problem.objective(y, operands), problem.objective(result.y, operands)
    converged = result.status == Status.CONVERGED
    gap = torch.where(converged, ours - other, 0) / ours.abs().clamp_min(1e-12).maximum(other.abs())
    if gap.numel() and not float(gap.max()) <= _OBJECTIVE:
        raise AssertionError(
            f"Newton's method finds a point with a smaller objective (relative gap "
            f"{float(gap.max()):.1e})"
        )
    count = int(converged.sum())
    return f"compared on {count} of {converged.numel()} problem(s) where Newton's method converged"


def _solve(subject: Subject) -> tuple[Problem, tuple[Tensor, ...], Solution]:
    bound = subject.node.bind(*subject.inputs)
    return bound.problem, bound.operands, subject.node.solution(*subject.inputs)
