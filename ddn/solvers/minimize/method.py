"""The methods of ``scipy.optimize.minimize`` that use gradients: what each treats, takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.optimize
from scipy.sparse.linalg import LinearOperator

from ddn.solvers.minimize.single import Array, SingleProblem

__all__ = ["METHODS", "ScipyMethod", "find_method"]

_EPS = float(np.finfo(np.float64).eps)
# Barrier parameter at which trust-constr may stop, against the tolerance.
_BARRIER = 0.1
# Trust regions may grow as far as iterates may go.
_LARGEST_RADIUS = 1e10


@dataclass(frozen=True)
class ScipyMethod:
    """One method of SciPy.

    Attributes:
        name: as SciPy has it.
        treats_bounds: whether bounds of variables may be stated.
        treats_constraints: whether ``equality`` and ``inequality`` may be stated.
        starts_inside: whether it must start between the bounds, away from them.
        limit: option that limits the iterations.
        exhausted: status by which SciPy says that the limit was met.
        arguments: further keywords of ``minimize``, given problem and tolerance: second derivatives,
            constraints.
        tolerances: options that stop the method, given the tolerance, or None for as exact as possible.
        multipliers: of a result, μ̂ of the stated rows; None if SciPy has none.
    """

    name: str
    treats_bounds: bool = False
    treats_constraints: bool = False
    starts_inside: bool = False
    limit: str = "maxiter"
    exhausted: int = 1
    arguments: Callable[[SingleProblem, float], dict[str, Any]] = field(
        default=lambda problem, tolerance: {}
    )
    tolerances: Callable[[float], dict[str, Any]] = field(default=lambda tolerance: {})
    multipliers: Callable[[Any, SingleProblem], Array | None] = field(
        default=lambda result, problem: np.zeros(problem.num_rows)
    )

    def minimize(
        self,
        problem: SingleProblem,
        max_iterations: int,
        tolerance: float,
        options: Mapping[str, Any],
    ) -> Any:
        """Run SciPy from the point of the problem's frame; returns its ``OptimizeResult``."""
        frame = problem.frame
        keywords: dict[str, Any] = self.arguments(problem, tolerance)
        if self.treats_bounds and frame.is_bounded:
            keywords["bounds"] = scipy.optimize.Bounds(*frame.bounds)
        return scipy.optimize.minimize(
            problem.objective,
            frame.start,
            method=self.name,
            jac=problem.gradient,
            options={self.limit: max_iterations, **self.tolerances(tolerance), **options},
            **keywords,
        )


def find_method(name: str) -> ScipyMethod:
    """The method of that name, in capitals or not.

    Raises:
        ValueError: SciPy has none, or one without gradients.
    """
    found = {method.name.lower(): method for method in METHODS}.get(str(name).lower())
    if found is not None:
        return found
    reason = "is no method of it that uses gradients"
    if str(name).lower() in ("nelder-mead", "powell", "cobyla", "cobyqa"):
        reason = (
            "does not use gradients: its solutions are too inexact to be differentiated, and exact "
            "gradients come for nothing here"
        )
    raise ValueError(
        f"ScipyMinimize: method {name!r} {reason}. Use one of "
        f"{', '.join(repr(method.name) for method in METHODS)}, or None to let the problem decide."
    )


def _product(problem: SingleProblem, tolerance: float) -> dict[str, Any]:
    """Hessian-vector products of the objective; those at one point share the passes up to its gradient."""
    return {"hessp": _RememberedProduct(problem)}


class _RememberedProduct:
    def __init__(self, problem: SingleProblem) -> None:
        self._problem = problem
        self._at: Array | None = None
        self._product: Callable[[Array], Array] | None = None

    def __call__(self, z: Array, v: Array) -> Array:
        if self._product is None or self._at is None or not np.array_equal(self._at, z):
            self._at = np.array(z)
            weights = self._problem.objective_weights()
            self._product = self._problem.hessian_product(z, weights)
        return self._product(v)


def _slsqp_constraints(problem: SingleProblem, tolerance: float) -> dict[str, Any]:
    """SLSQP wants rows that are at least zero: −g."""
    p = problem.frame.num_equalities
    constraints = []
    if p:
        constraints.append(
            {"type": "eq", "fun": problem.equality, "jac": problem.equality_jacobian}
        )
    if problem.num_rows > p:
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda z: -problem.inequality(z),
                "jac": lambda z: -problem.inequality_jacobian(z),
            }
        )
    return {"constraints": constraints}


def _slsqp_multipliers(result: Any, problem: SingleProblem) -> Array | None:
    """L = f − mᵀc with c = h, then c = −g ≥ 0: λ = −m, ν = m. Older SciPy has none."""
    found = getattr(result, "multipliers", None)
    if found is None:
        return None
    multipliers: Array = np.array(found, dtype=np.float64)
    p = problem.frame.num_equalities
    multipliers[:p] *= -1
    return multipliers


def _trust_constr_arguments(problem: SingleProblem, tolerance: float) -> dict[str, Any]:
    """Two constraints, one-sided each: SciPy sums up the two sides of an interval."""
    p, n = problem.frame.num_equalities, len(problem.frame.start)
    count = problem.num_rows

    def weighted(first: int, last: int) -> Callable[[Array, Array], LinearOperator]:
        def hessian(z: Array, v: Array) -> LinearOperator:
            weights = np.zeros(1 + count)
            weights[1 + first : 1 + last] = v
            return LinearOperator((n, n), problem.hessian_product(z, weights), dtype=np.float64)

        return hessian

    constraints = []
    if p:
        constraints.append(
            scipy.optimize.NonlinearConstraint(
                problem.equality, 0.0, 0.0, problem.equality_jacobian, weighted(0, p)
            )
        )
    if count > p:
        constraints.append(
            scipy.optimize.NonlinearConstraint(
                problem.inequality, -np.inf, 0.0, problem.inequality_jacobian, weighted(p, count)
            )
        )
    stop = _CentralStop(tolerance)
    return {"constraints": constraints, "callback": stop, **_product(problem, tolerance)}


class _CentralStop:
    """Stops trust-constr at a point of the central path that is close to its end.

    SciPy's own test does not look at the barrier parameter, and may stop at a point where inequalities that
    are not active have multipliers.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance

    def __call__(self, z: Array, state: Any) -> bool:
        residual = max(state.optimality, state.constr_violation)
        barrier = getattr(state, "barrier_parameter", 0.0)
        return bool(residual <= self._tolerance and barrier <= _BARRIER * self._tolerance)


def _trust_constr_multipliers(result: Any, problem: SingleProblem) -> Array:
    """L = f + vᵀc, constraint by constraint; those of the bounds come last and follow from the others."""
    p, count = problem.frame.num_equalities, problem.num_rows
    parts = list(result.v)[: (p > 0) + (count > p)]
    return np.concatenate([np.zeros(0), *map(np.ravel, parts)])


def _gradient_norm(tolerance: float) -> dict[str, Any]:
    return {"gtol": tolerance}


def _trust_region(tolerance: float) -> dict[str, Any]:
    return {"gtol": tolerance, "max_trust_radius": _LARGEST_RADIUS}


METHODS: tuple[ScipyMethod, ...] = (
    ScipyMethod(
        "SLSQP",
        treats_bounds=True,
        treats_constraints=True,
        exhausted=9,
        arguments=_slsqp_constraints,
        # It compares changes of the objective, which are quadratic in those of y; with less to compare it
        # may go on for ever.
        tolerances=lambda tolerance: {"ftol": max(tolerance**2, _EPS**0.875)},
        multipliers=_slsqp_multipliers,
    ),
    ScipyMethod(
        "trust-constr",
        treats_bounds=True,
        treats_constraints=True,
        starts_inside=True,
        exhausted=0,
        arguments=_trust_constr_arguments,
        tolerances=lambda tolerance: {
            "gtol": 0.0,
            "xtol": tolerance,
            "barrier_tol": _BARRIER * tolerance,
        },
        multipliers=_trust_constr_multipliers,
    ),
    ScipyMethod(
        "L-BFGS-B",
        treats_bounds=True,
        tolerances=lambda tolerance: {
            "gtol": tolerance,
            "ftol": 0.0,
            "maxfun": 10**9,
            "maxcor": 20,
        },
    ),
    ScipyMethod(
        "TNC",
        treats_bounds=True,
        limit="maxfun",
        exhausted=3,
        tolerances=lambda tolerance: {"gtol": tolerance, "ftol": 0.0, "xtol": 0.0},
    ),
    ScipyMethod("BFGS", tolerances=_gradient_norm),
    ScipyMethod("CG", tolerances=_gradient_norm),
    ScipyMethod("Newton-CG", arguments=_product, tolerances=lambda tolerance: {"xtol": tolerance}),
    ScipyMethod("trust-ncg", arguments=_product, tolerances=_trust_region),
    ScipyMethod("trust-krylov", arguments=_product, tolerances=_trust_region),
    ScipyMethod(
        "trust-exact",
        arguments=lambda problem, tolerance: {"hess": problem.hessian},
        tolerances=_trust_region,
    ),
)
"""All of them; the first two treat constraints."""
