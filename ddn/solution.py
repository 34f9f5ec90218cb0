"""What a solve returns: the solution, its multipliers, and what is known about its quality."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from ddn.quadratic.active_set import ActiveSetSystem

__all__ = ["Solution", "SolvedProblem", "SolverResult", "Status", "WarmStart"]


class Status(IntEnum):
    """Outcome of one problem of the batch; :attr:`remedy` says what to do about it."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    STALLED = 2
    NOT_STATIONARY = 3
    NOT_FINITE = 4
    INFEASIBLE = 5
    UNBOUNDED = 6

    @property
    def remedy(self) -> str:
        """What happened and what to try."""
        return _REMEDIES[self]


_REMEDIES = {
    Status.CONVERGED: "solved to tolerance",
    Status.MAX_ITERATIONS: (
        "stopped at the iteration limit: the problem may be unbounded or infeasible, or its objective may "
        "have a kink (an absolute value, a maximum, a norm at zero: state it by a variable t and "
        "inequalities such as y − t ≤ 0, −y − t ≤ 0); else raise `max_iterations` of the solver, or define "
        "`starting_point` on the node closer to the solution"
    ),
    Status.STALLED: (
        "no step decreases the merit function: the problem may be unbounded or infeasible, its objective may "
        "have a kink where the solver stands (state absolute values, maxima and norms by a variable t and "
        "inequalities such as y − t ≤ 0, −y − t ≤ 0), or the solver may have started outside the domain of "
        "the objective: define `starting_point` inside"
    ),
    Status.NOT_STATIONARY: (
        "the point returned by the solve does not satisfy the optimality conditions of the stated "
        "objective and constraints: check `solve` against `objective`, or tighten the solver"
    ),
    Status.NOT_FINITE: (
        "NaN or infinity in the inputs, the objective or its derivatives: check the inputs, or define "
        "`starting_point` inside the domain of the objective"
    ),
    Status.INFEASIBLE: (
        "no point near the last iterate satisfies the constraints (inequalities are g ≤ 0, and a lower bound "
        "must not exceed the upper one): relax them, or make the violation part "
        "of the objective; for constraints that are not convex, define `starting_point` elsewhere"
    ),
    Status.UNBOUNDED: (
        "the objective decreases without end on the feasible set (inequalities are g ≤ 0): bound the "
        "variables, or add a proximal term to the objective"
    ),
}


@dataclass(frozen=True)
class SolverResult:
    """What a solver hands back to the node; the node verifies it.

    Attributes:
        y: solution vectors ``(*batch, m)``.
        multipliers: μ = (λ, ν), ``(*batch, p + q)``, rows as in :meth:`ddn.problem.Problem.constraints`;
            None if the solver has none.
        status: integers of :class:`Status`, ``(*batch,)``.
        iterations: ``(*batch,)``.
        system: of a quadratic program, the factorized system of its active set
            (:class:`ddn.quadratic.active_set.ActiveSetSystem`), if the solver has it: the derivative
            needs it, too.
    """

    y: Tensor
    multipliers: Tensor | None
    status: Tensor
    iterations: Tensor
    system: ActiveSetSystem | None = None


@dataclass(frozen=True)
class WarmStart:
    """Where a solver may start: at the solution of a similar batch of problems.

    Attributes:
        y: solution vectors ``(*batch, m)``; where nothing is known, the point of a cold start.
        multipliers: μ = (λ, ν), ``(*batch, p + q)``, rows as in :class:`SolverResult`; zero where nothing
            is known. None if no multipliers were given.
        known: whether y is that of a solution, ``(*batch,)``.
    """

    y: Tensor
    multipliers: Tensor | None
    known: Tensor


@dataclass(frozen=True)
class SolvedProblem:
    """What a gradient hands to the node: vectors as solvers see them, y and μ differentiable.

    Attributes:
        y: ``(*batch, m)``.
        multipliers: μ = (λ, ν), ``(*batch, p + q)``.
        active: inequalities held at equality, ``(*batch, q)``.
        weakly_active: inequalities whose multiplier and slack both vanish, ``(*batch, q)``.
        status: integers of :class:`Status`, ``(*batch,)``.
        iterations: ``(*batch,)``.
        stationarity: relative residual of ∇_y L = 0, ``(*batch,)``.
        primal_feasibility: of h = 0 and g ≤ 0.
        dual_feasibility: of ν ≥ 0.
        complementarity: of ν_i = 0 or g_i = 0.
    """

    y: Tensor
    multipliers: Tensor
    active: Tensor
    weakly_active: Tensor
    status: Tensor
    iterations: Tensor
    stationarity: Tensor
    primal_feasibility: Tensor
    dual_feasibility: Tensor
    complementarity: Tensor


@dataclass(frozen=True)
class Solution:
    """Solution of a batch of problems, with the sign convention L = f + λᵀh + νᵀg.

    ``y`` and the multipliers are differentiable with respect to the node's inputs and parameters.

    Attributes:
        y: ``(*batch, *core)``, or a tuple with one tensor per solution block.
        equality_multipliers: λ, ``(*batch, p)``, in the order in which ``equality`` states them.
        inequality_multipliers: ν ≥ 0, ``(*batch, q)``, in the order in which ``inequality`` states them;
            None for a node without.
        lower_multipliers: of the lower bounds, shaped like y; None for a node without ``bounds``.
        upper_multipliers: of the upper bounds, likewise.
        active: inequalities held at equality in the derivative, ``(*batch, q)``: those of ``inequality``,
            then, for a node with bounds, all lower and all upper bounds; None for a node without any.
        weakly_active: inequalities whose multiplier and slack both vanish, to √ε of their scales: the
            solution has a kink, or is near one, and its derivative is one-sided.
        status: integers of :class:`Status`, ``(*batch,)``.
        iterations: iterations of the solver, ``(*batch,)``; zero for a closed form.
        stationarity: ‖∇_y L‖_∞ relative to the size of its terms, ``(*batch,)``.
        feasibility: of h = 0 and g ≤ 0, relative to the size of their terms, ``(*batch,)``.
        complementarity: the largest min(ν_i, −g_i), both relative, ``(*batch,)``.
    """

    y: Tensor | tuple[Tensor, ...]
    equality_multipliers: Tensor
    inequality_multipliers: Tensor | None
    lower_multipliers: Tensor | tuple[Tensor, ...] | None
    upper_multipliers: Tensor | tuple[Tensor, ...] | None
    active: Tensor | None
    weakly_active: Tensor | None
    status: Tensor
    iterations: Tensor
    stationarity: Tensor
    feasibility: Tensor
    complementarity: Tensor

    @property
    def converged(self) -> Tensor:
        """True where the problem was solved, ``(*batch,)``."""
        return self.status == Status.CONVERGED
