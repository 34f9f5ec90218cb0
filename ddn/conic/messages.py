"""What a CVXPY node says when something is the matter: the fact, the cause, the remedy, and where."""

from __future__ import annotations

from torch import Tensor

from ddn.failure import format_indices
from ddn.solution import Status

__all__ = ["explain_rough", "explain_singular", "explain_status"]


def explain_singular(mask: Tensor) -> str:
    """Of problems whose derivative does not exist."""
    return (
        f"CvxpyNode: the derivative does not exist for {format_indices(mask)}: the linear system of the "
        "optimality conditions is singular, and the gradient asked for is not in its range. The solution, or "
        "its dual when that is differentiated, is not unique. Add a strictly convex term such as a small "
        "multiple of cp.sum_squares of the variables, or remove redundant constraints."
    )


def explain_rough(mask: Tensor) -> str:
    """Of problems whose solution is accepted, but not right to rounding."""
    return (
        f"CvxpyNode: the derivative of {format_indices(mask)} may be inaccurate: the solution is near a "
        "kink or degenerate, so that Newton's method on the optimality conditions did not converge, and "
        "which constraints bind is known to the accuracy of the solver only. Use "
        "solver=ddn.conic.Clarabel(tolerance=1e-11), or add a small multiple of cp.sum_squares."
    )


def explain_status(status: Tensor) -> str:
    """Which problems were not solved, and what to do about it."""
    codes = [code for code in Status if code != Status.CONVERGED and bool((status == code).any())]
    lines = [
        f"\n  {format_indices(status == code)}: {code.name}, {_REMEDIES[code]}." for code in codes
    ]
    return "CvxpyNode: problems were not solved:" + "".join(lines)


_REMEDIES = {
    Status.INFEASIBLE: (
        "no point satisfies the constraints at these parameters: relax them, or make the violation part "
        "of the objective"
    ),
    Status.UNBOUNDED: (
        "the objective decreases without end on the feasible set: bound the variables, or add a strictly "
        "convex term"
    ),
    Status.NOT_FINITE: "parameters contain NaN or infinity: check the inputs",
    Status.MAX_ITERATIONS: (
        "stopped at the iteration limit: raise it, solver=ddn.conic.Clarabel(max_iterations=...), and "
        "check the scaling of the problem"
    ),
    Status.STALLED: (
        "the optimality conditions hold only roughly: rescale variables, constraints and objective to "
        "comparable sizes"
    ),
    Status.NOT_STATIONARY: (
        "what the solver returned does not satisfy the optimality conditions: tighten its tolerance"
    ),
}
