"""The engine of quadratic programs: what :class:`ddn.engine.ImplicitEngine` does, with matrices at hand.

The solution is made exact on its active set and verified by a few products with matrices; the factorization
that does it serves the backward pass, too. With K (u, s) = (−ȳ, −μ̄) and F = (Q y + q + Jᵀμ, J y − c), the
reverse pass ∂/∂x ⟨(u, s), F⟩ is

    Q̄ = ½ (u yᵀ + y uᵀ),   q̄ = u,   J̄ = μ uᵀ + s yᵀ,   c̄ = −s        (Amos and Kolter 2017, eq. 8).

Everything else (second derivatives, forward mode, problems whose system is singular) is left to the
general engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ddn.engine import ImplicitEngine, failure_message, same_memory
from ddn.failure import apply_policy
from ddn.forward_mode import own_memory
from ddn.functional import is_last_backward
from ddn.lagrangian import Lagrangian
from ddn.optimality import acceptable_residual
from ddn.problem import Problem
from ddn.quadratic.balance import Balanced
from ddn.quadratic.finish import made_exact
from ddn.quadratic.kept import KeptSolution, StatedMatrices, detached
from ddn.quadratic.point import QuadraticPoint, generic_start
from ddn.solution import Status

__all__ = ["QuadraticEngine"]


@dataclass(frozen=True)
class QuadraticEngine:
    """Solves and differentiates a problem that says that it is a quadratic program.

    Attributes:
        general: does what needs no matrices.
        differentiated: operands whose gradients will be asked for.
    """

    general: ImplicitEngine
    differentiated: tuple[int, ...] = ()
    _kept: list[KeptSolution] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def problem(self) -> Problem:
        """The problem of the node, bound to shapes."""
        return self.general.problem

    @property
    def lagrangian(self) -> Lagrangian:
        """Whose stationary point is differentiated."""
        return self.general.lagrangian

    @property
    def on_failure(self) -> str:
        """What to do for problems that fail."""
        return self.general.on_failure

    @property
    def first_order_only(self) -> bool:
        """All derivatives exist."""
        return False

    @property
    def smoothing(self) -> float:
        """Derivatives are those of the problem itself."""
        return 0.0

    def solve(self, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As :meth:`ddn.engine.ImplicitEngine.solve`."""
        problem, solver = self.problem, self.general.solver
        batch = problem.batch_shape(operands)
        stated = StatedMatrices.at(problem, operands, self.differentiated)
        problem.remember(operands, stated.data)
        with torch.no_grad():
            result = solver.solve(problem, operands)
            if result.multipliers is None:
                return self.general.solve(operands)
            y = result.y.double().reshape(batch.numel(), -1)
            balanced = problem.balanced(operands)
            found = QuadraticPoint.of(
                balanced.data,
                *balanced.to_balanced(y, result.multipliers.double().reshape(len(y), -1)),
            )
            start = self._start(operands, y)
            if balanced.units is not None:
                start = start / balanced.units
            point, optimality, system = made_exact(found, start, result.system)
            residuals = optimality.residuals
            y, multipliers = balanced.to_original(point.y, point.multipliers)
            status = _verified(result.status.reshape(-1), residuals, y)
            like = operands[0].dtype
            y, multipliers, residuals = (t.to(like) for t in (y, multipliers, residuals))
            y, multipliers, status = (_unflattened(t, batch) for t in (y, multipliers, status))
            y, multipliers = apply_policy(
                self.on_failure,
                status != Status.CONVERGED,
                lambda: failure_message(problem, solver, status),
                (y, multipliers),
            )
            active, weakly_active = (
                _unflattened(t, batch) for t in (optimality.active, optimality.weakly_active)
            )
            # What is returned is what is kept: copied here, or it would be on the way out.
            y, multipliers, active = own_memory((y, multipliers, active))
            if self.differentiated:
                values = (y, multipliers, active, *operands)
                self._kept[:] = [KeptSolution(detached(values), stated, balanced, system)]
        return (
            y,
            multipliers,
            active,
            weakly_active,
            status,
            result.iterations,
            *(_unflattened(part, batch) for part in residuals.unbind(0)),
        )

    def _start(self, operands: Sequence[Tensor], y: Tensor) -> Tensor:
        if self.problem.node.starting_point is None:
            return generic_start(y)
        return self.problem.starting_point(operands).double().reshape(y.shape)

    def solve_kkt(
        self,
        right_y: Tensor,
        right_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        operands: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`ddn.engine.ImplicitEngine.solve_kkt`."""
        return self.general.solve_kkt(right_y, right_multipliers, y, multipliers, active, operands)

    def pull_back(
        self,
        grad_y: Tensor,
        grad_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        operands: Sequence[Tensor],
        needed: Sequence[int],
    ) -> dict[int, Tensor] | None:
        """As :meth:`ddn.engine.ImplicitEngine.pull_back`."""
        point = (y, multipliers, active, *operands)
        with torch.no_grad():
            found = None
            if self.on_failure != "nan" or not bool(y.isnan().any()):
                kept = self._keep(point, needed)
                found = kept.pull_back(grad_y, grad_multipliers, y, multipliers, active, needed)
            if is_last_backward():
                self.release()
        if found is not None:
            return found
        return self.general.pull_back(
            grad_y, grad_multipliers, y, multipliers, active, operands, needed
        )

    def _keep(self, point: tuple[Tensor, ...], needed: Sequence[int]) -> KeptSolution:
        for kept in self._kept:
            if set(needed) <= set(kept.stated.differentiated) and same_memory(kept.point, point):
                return kept
        stated = StatedMatrices.at(self.problem, point[3:], tuple(needed))
        return KeptSolution(detached(point), stated, Balanced.of(stated.data), None)

    def forget(self) -> None:
        """Drop the factorization that is kept for further passes."""
        self._kept[:] = [replace(kept, system=None) for kept in self._kept]
        self.general.forget()

    def release(self) -> None:
        """Drop all that is kept."""
        self._kept.clear()
        self.general.release()


def _unflattened(tensor: Tensor, batch: torch.Size) -> Tensor:
    """``(batch, ...)`` to ``(*batch, ...)``."""
    # Without a view, where possible: what autograd returns must own its memory.
    return tensor if len(batch) == 1 else tensor.reshape(batch + tensor.shape[1:])


def _verified(status: Tensor, residuals: Tensor, y: Tensor) -> Tensor:
    """The status that a solver claims, as far as the residuals ``(4, batch)`` agree."""
    solved = (residuals <= acceptable_residual(y.dtype)).all(0)
    if bool(solved.all()):  # then everything is finite
        return status
    claimed = status == Status.CONVERGED
    finite = residuals.isfinite().all(0) & y.isfinite().all(-1)
    status = torch.where(claimed & ~solved, int(Status.NOT_STATIONARY), status)
    return torch.where(claimed & ~finite, int(Status.NOT_FINITE), status)
