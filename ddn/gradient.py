"""Gradients from the optimality conditions: how a solution is differentiated, as an object.

A gradient is apart from problem and solver: it solves the problem with whatever solver it is given, and
returns the solution as a differentiable function of the operands.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from torch import Tensor

from ddn.engine import ImplicitEngine
from ddn.functional import will_be_differentiated
from ddn.implicit import StationaryPoint
from ddn.kkt.automatic import Automatic
from ddn.kkt.system import KKTSolver, require_linear_solver
from ddn.kkt.unconstrained import Unconstrained
from ddn.problem import Problem
from ddn.quadratic.engine import QuadraticEngine
from ddn.solution import SolvedProblem
from ddn.solvers.base import Solver

__all__ = ["Gradient", "ImplicitGradient", "UnconstrainedGradient", "require_gradient"]


class Gradient(Protocol):
    """How a node differentiates its solution.

    A gradient that is an approximation says so by an attribute ``is_exact = False``.
    """

    def solve(
        self, problem: Problem, solver: Solver, operands: Sequence[Tensor], on_failure: str
    ) -> SolvedProblem:
        """The solution, y and μ differentiable with respect to the operands."""


def require_gradient(value: object) -> None:
    """Raise TypeError unless the value is a gradient, or None."""
    if value is None:
        return
    # A solver has a `solve`, too; that of a gradient takes problem, solver, operands and on_failure.
    solve = getattr(value, "solve", None)
    fits = callable(solve) and len(inspect.signature(solve).parameters) >= 4
    if isinstance(value, type) or not fits:
        raise TypeError(
            "gradient is an object such as ddn.ImplicitGradient() (an instance, not a class, and no solver), "
            f"but was given {value!r}."
        )


@dataclass(frozen=True)
class ImplicitGradient:
    """The exact derivative, from the optimality conditions at the solution (:mod:`ddn.implicit`).

    Inequality constraints enter by their active set: active ones are held at equality, inactive ones have
    no influence. Where a constraint is weakly active (multiplier and slack both vanish) the solution has a
    kink, and the derivative is one-sided: that of the side where the constraint stays active, as
    relu'(0) = 0. At the vertex of a linear program the derivative with respect to the cost is zero.

    With ``smoothing`` κ > 0 the value stays y(x), but all derivatives are those of the point y_κ(x) on
    the central path of interior-point methods,

        y_κ(x) = argmin_u f(x, u) − κ Σ log(−g_i(x, u))   subject to   h(x, u) = 0,

    where ν_i (−g_i) = κ for every inequality: it is smooth in x, and informative where the exact
    derivative is zero or has a kink (Nocedal and Wright 2006, section 19.1). Multipliers follow suit.
    Without inequalities it has no effect.

    Attributes:
        linear_solver: solves the KKT system, an object of :mod:`ddn.kkt`.
        smoothing: κ ≥ 0, in units of the objective.
    """

    linear_solver: KKTSolver = field(default_factory=Automatic)
    smoothing: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether derivatives are those of the solution that is returned."""
        return not self.smoothing

    def __post_init__(self) -> None:
        if not self.smoothing >= 0:
            raise ValueError(f"smoothing is a number κ ≥ 0, but was given {self.smoothing!r}.")
        require_linear_solver(self.linear_solver)

    def engine(
        self, problem: Problem, solver: Solver, on_failure: str
    ) -> ImplicitEngine | QuadraticEngine:
        """What solves the problem and its KKT systems."""
        smoothing = self.smoothing if problem.has_inequality else 0.0
        engine = ImplicitEngine(problem, solver, self.linear_solver, on_failure, smoothing)
        if problem.is_quadratic and not smoothing and isinstance(self.linear_solver, Automatic):
            return QuadraticEngine(engine)
        return engine

    def solve(
        self, problem: Problem, solver: Solver, operands: Sequence[Tensor], on_failure: str
    ) -> SolvedProblem:
        """The solution, differentiable to every order."""
        engine = self.engine(problem, solver, on_failure)
        engine = replace(engine, differentiated=will_be_differentiated(operands))
        outputs = StationaryPoint.apply(engine, *operands)
        if not engine.smoothing:
            return SolvedProblem(*outputs)
        y, multipliers, *rest, exact_y, exact_multipliers = outputs
        # The value is exact, the derivatives are those of the smooth problem.
        return SolvedProblem(
            exact_y + (y - y.detach()),
            exact_multipliers + (multipliers - multipliers.detach()),
            *rest,
        )


@dataclass(frozen=True)
class UnconstrainedGradient:
    """An approximation for speed that drops all constraints: only H⁻¹ of the KKT system is kept,

        dy ≈ −H⁻¹ (∂²L/∂y∂x) dx,        H = ∂²L/∂y².

    Often a descent direction still (Gould, Xu, Xu and Liu 2023), but not the
    derivative of the solution: y moves off its constraints. Multipliers get no derivative. First
    derivatives only; second ones raise an error.

    Attributes:
        linear_solver: solves systems with H.
    """

    linear_solver: KKTSolver = field(default_factory=Automatic)
    is_exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_linear_solver(self.linear_solver)

    def engine(self, problem: Problem, solver: Solver, on_failure: str) -> ImplicitEngine:
        """What solves the problem, and systems with H in place of its KKT systems."""
        linear_solver = Unconstrained(self.linear_solver)
        return ImplicitEngine(problem, solver, linear_solver, on_failure, first_order_only=True)

    def solve(
        self, problem: Problem, solver: Solver, operands: Sequence[Tensor], on_failure: str
    ) -> SolvedProblem:
        """The solution, with an approximate first derivative."""
        engine = self.engine(problem, solver, on_failure)
        engine = replace(engine, differentiated=will_be_differentiated(operands))
        return SolvedProblem(*StationaryPoint.apply(engine, *operands))
