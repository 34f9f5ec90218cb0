"""Is the output of a node the solution of its problem?"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.optimality import acceptable_residual
from ddn.problem import Problem
from ddn.solution import Solution, Status
from ddn.solvers.base import Solver, as_blocks
from ddn.solvers.interior_point import InteriorPoint
from ddn.solvers.newton import Newton
from ddn.testing.subject import Subject
from ddn.verification import solve_verified

__all__ = ["check_against_solver", "check_certificate", "check_curvature", "check_stationarity"]

_CURVATURE = 1e-7
_OBJECTIVE = 1e-6


@torch.no_grad()
def check_stationarity(subject: Subject) -> str:
    """First-order optimality conditions, relative to the size of their terms."""
    solution = subject.node.solution(*subject.inputs)
    residuals = (solution.stationarity, solution.feasibility, solution.complementarity)
    residual = max(float(value.max()) for value in residuals)
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
    """Second-order condition: no negative curvature of L on the null space of the active constraints."""
    smallest = float(subject.node.certificate(*subject.inputs).curvature.min())
    if smallest == float("inf"):
        return "the constraints determine the solution"
    if not smallest >= -_CURVATURE:
        raise AssertionError(
            f"smallest eigenvalue of the reduced Hessian is {smallest:.2e}: the solution is a saddle "
            "point or a maximum"
        )
    return f"smallest relative eigenvalue of the reduced Hessian {smallest:.1e}"


@torch.no_grad()
def check_certificate(subject: Subject) -> str:
    """Whether the inputs are a place where derivatives exist: else finite differences prove nothing."""
    certificate = subject.node.certificate(*subject.inputs)
    if not bool(certificate.trustworthy.all()):
        raise AssertionError(
            f"the solution is not regular at these inputs; check the node elsewhere.\n{certificate}"
        )
    return f"condition number {float(certificate.condition.max()):.1e}"


@torch.no_grad()
def check_against_solver(subject: Subject) -> str:
    """The objective at the solution against the point that a generic solver finds."""
    problem, operands, solution = _solve(subject)
    y = problem.join(as_blocks(solution.y))
    solver: Solver = InteriorPoint() if problem.has_inequality else Newton()
    found = solve_verified(problem, solver, operands)
    ours, other = problem.objective(y, operands), problem.objective(found.y, operands)
    converged = found.status == Status.CONVERGED
    gap = torch.where(converged, ours - other, 0) / ours.abs().clamp_min(1e-12).maximum(other.abs())
    name = type(solver).__name__
    if gap.numel() and not float(gap.max()) <= _OBJECTIVE:
        raise AssertionError(
            f"{name} finds a point with a smaller objective (relative gap {float(gap.max()):.1e})"
        )
    count = int(converged.sum())
    return f"compared on {count} of {converged.numel()} problem(s) where {name} converged"


def _solve(subject: Subject) -> tuple[Problem, tuple[Tensor, ...], Solution]:
    bound = subject.node.bind(*subject.inputs)
    return bound.problem, bound.operands, subject.node.solution(*subject.inputs)
