"""What a solve returns: the solution, its multipliers, and what is known about its quality."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

__all__ = ["Solution", "SolverResult", "Status"]


class Status(IntEnum):
    """Outcome of one problem of the batch; :attr:`remedy` says what to do about it."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    STALLED = 2
    NOT_STATIONARY = 3
    NOT_FINITE = 4

    @property
    def remedy(self) -> str:
        """What happened and what to try."""
        return _REMEDIES[self]


_REMEDIES = {
    Status.CONVERGED: "solved to tolerance",
    Status.MAX_ITERATIONS: (
        "stopped at the iteration limit: the problem may be unbounded or infeasible; else raise "
        "`max_iterations` of the solver, or define `starting_point` on the node closer to the solution"
    ),
    Status.STALLED: (
        "no step decreases the merit function: the problem may be unbounded, infeasible or not twice "
        "differentiable where the solver stands; define `starting_point`, or check the gradient"
    ),
    Status.NOT_STATIONARY: (
        "the point returned by the solve does not satisfy the optimality conditions of the stated "
        "objective and constraints: check `solve` against `objective`, or tighten the solver"
    ),
    Status.NOT_FINITE: (
        "NaN or infinity in the inputs, the objective or its derivatives: check the inputs, or define "
        "`starting_point` inside the domain of the objective"
    ),
}


@dataclass(frozen=True)
class SolverResult:
    """What a solver hands back to the node; the node verifies it.

    Attributes:
        y: solution vectors ``(*batch, m)``.
        multipliers: ``(*batch, p)``, or None if the solver has none.
        status: integers of :class:`Status`, ``(*batch,)``.
        iterations: ``(*batch,)``.
    """

    y: Tensor
    multipliers: Tensor | None
    status: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class Solution:
    """Solution of a batch of problems, with the sign convention L = f + λᵀh + νᵀg.

    ``y`` and the multipliers are differentiable with respect to the node's inputs and parameters.

    Attributes:
        y: ``(*batch, *core)``, or a tuple with one tensor per solution block.
        equality_multipliers: λ, ``(*batch, p)``, in the order in which ``equality`` states them.
        inequality_multipliers: ν, ``(*batch, q)``; None for a node without inequalities.
        status: integers of :class:`Status`, ``(*batch,)``.
        iterations: iterations of the solver, ``(*batch,)``; zero for a closed form.
        stationarity: ‖∇_y L‖_∞ relative to the size of its terms, ``(*batch,)``.
        feasibility: ‖h‖_∞ relative to the size of its terms, ``(*batch,)``.
    """

    y: Tensor | tuple[Tensor, ...]
    equality_multipliers: Tensor
    inequality_multipliers: Tensor | None
    status: Tensor
    iterations: Tensor
    stationarity: Tensor
    feasibility: Tensor

    @property
    def converged(self) -> Tensor:
        """True where the problem was solved, ``(*batch,)``."""
        return self.status == Status.CONVERGED
