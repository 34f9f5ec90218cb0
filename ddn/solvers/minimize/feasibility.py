"""Whether there is a feasible point near: the smallest violation of the constraints within the bounds."""

from __future__ import annotations

import numpy as np
import scipy.optimize

from ddn.solvers.minimize.single import Array, SingleProblem

__all__ = ["least_violation"]

_EPS = float(np.finfo(np.float64).eps)
# Relative size of a gradient that is none.
_STATIONARY = 1e-5


def least_violation(problem: SingleProblem, max_iterations: int) -> tuple[Array, bool]:
    """Minimize ½‖(h, max(g, 0))‖² over the variables within their bounds, by L-BFGS-B.

    Returns:
        The point z, and whether it is a minimum at which constraints are violated: no point near it is
        feasible, and for linear h and convex g none at all.
    """
    frame = problem.frame
    result = scipy.optimize.minimize(
        problem.violation,
        frame.start,
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(*frame.bounds) if frame.is_bounded else None,
        options={"maxiter": max_iterations, "maxfun": 10**9, "ftol": 0.0, "gtol": _EPS},
    )
    z: Array = result.x
    half_square, gradient = problem.violation(z)
    violation = (2 * half_square) ** 0.5
    lower, upper = frame.bounds
    projected = np.clip(z - gradient, lower, upper) - z
    # Rows have gradients of length about one: that of the square is at most about the violation.
    stationary = float(np.abs(projected).max(initial=0)) <= _STATIONARY * violation
    size = max(float(np.abs(z).max(initial=0)), _EPS)
    return z, stationary and violation > _EPS**0.25 * size
