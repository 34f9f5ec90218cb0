"""Between a node and the functions that differentiate it: the solution, and its KKT systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ddn.errors import SingularSystemError
from ddn.failure import apply_policy, format_indices
from ddn.functional import is_last_backward
from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem
from ddn.lagrangian import Lagrangian
from ddn.optimality import acceptable_residual
from ddn.problem import Problem
from ddn.solution import Status, WarmStart
from ddn.solvers.base import Solver
from ddn.solvers.interior_point import InteriorPoint
from ddn.verification import VerifiedSolution, solve_verified

__all__ = ["ImplicitEngine", "failure_message", "same_memory"]


@dataclass(frozen=True)
class ImplicitEngine:
    """Solves a problem, verifies the optimality conditions, and solves its KKT systems.

    Attributes:
        problem: the problem of the node, bound to shapes.
        solver: finds the solution.
        linear_solver: solves the KKT systems.
        on_failure: what to do for problems that fail: "raise", "warn" or "nan".
        smoothing: κ; if positive, what is differentiated is the point of the central path.
        first_order_only: whether the linear solver is an approximation.
        differentiated: operands whose gradients will be asked for: what verification evaluates of the
            optimality conditions is kept for them, as long as the solution is.
    """

    problem: Problem
    solver: Solver
    linear_solver: KKTSolver
    on_failure: str
    smoothing: float = 0.0
    first_order_only: bool = False
    differentiated: tuple[int, ...] = ()
    _verified: list[KKTSystem] = field(default_factory=list, init=False, repr=False, compare=False)
    _last: list[_Factorized] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def lagrangian(self) -> Lagrangian:
        """Whose stationary point is differentiated."""
        return Lagrangian(self.problem, self.smoothing)

    def solve(self, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """y, μ, active, weakly active, then status, iterations and the four residuals.

        With smoothing, the first two are those of the central path, and the exact ones come last.
        """
        found = solve_verified(self.problem, self.solver, operands, self.differentiated)
        status, optimality = found.status, found.optimality
        y, multipliers = apply_policy(
            self.on_failure,
            status != Status.CONVERGED,
            lambda: self._message(status),
            (found.y, found.multipliers),
        )
        diagnostics = (
            optimality.active,
            optimality.weakly_active,
            status,
            found.iterations,
            *optimality.residuals.unbind(0),
        )
        if not self.smoothing:
            self._keep(found, y, multipliers, operands)
            return (y, multipliers, *diagnostics)
        central_y, central_multipliers = self._central_point(found, operands)
        self._keep(found, central_y, central_multipliers, operands)
        return (central_y, central_multipliers, *diagnostics, y, multipliers)

    def _message(self, status: Tensor) -> str:
        message = failure_message(self.problem, self.solver, status)
        solver = getattr(self.solver, "solver", self.solver)  # of a warm start
        unstated = hasattr(solver, "manifold") and not self.problem.has_equality
        if not (unstated and bool((status == Status.NOT_STATIONARY).any())):
            return message
        return (
            f"{message}\n  The solver searches on a manifold that the node does not state by `equality`, so "
            "that the conditions of constraints do not hold: use gradient=ddn.RiemannianGradient(), the only "
            "one for quotient manifolds such as subspaces, where the KKT matrix is singular."
        )

    def _keep(
        self, found: VerifiedSolution, y: Tensor, multipliers: Tensor, operands: Sequence[Tensor]
    ) -> None:
        """Evaluate now what will be differentiated: the problem as it is, with its active inequalities."""
        if not self.differentiated:
            return
        system = found.system
        if self.problem.has_inequality:
            system = replace(
                system,
                lagrangian=self.lagrangian,
                y=y.detach(),
                multipliers=multipliers.detach(),
                active=found.optimality.active,
            )
        with torch.no_grad():
            self._verified[:] = [system.evaluated(found.optimality.terms)]

    def _central_point(
        self, found: VerifiedSolution, operands: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        solver = InteriorPoint(barrier=self.smoothing)
        with torch.no_grad():
            known = found.status == Status.CONVERGED
            start = WarmStart(found.y, found.multipliers, known)
            result = solver.solve(self.problem, operands, start)
            assert result.multipliers is not None
            g = self.problem.inequality(result.y, operands)
            p = result.multipliers.shape[-1] - g.shape[-1]
            # Rows without a bound are constants, which the solver leaves out: on the path they are, too.
            nu = result.multipliers[..., p:]
            nu = torch.where(nu > 0, nu, self.smoothing / -g)
            multipliers = torch.cat([result.multipliers[..., :p], nu], -1)
            error = (nu * -g / self.smoothing - 1).abs()
            off = ~(error <= acceptable_residual(nu.dtype)).all(-1)
        # A problem without a solution is reported already.
        failed = (off | (result.status != Status.CONVERGED)) & (found.status == Status.CONVERGED)
        y, multipliers = apply_policy(
            self.on_failure,
            failed,
            lambda: (
                f"{type(self.problem.node).__name__}: no point of the central path was found for "
                f"{format_indices(failed)} with smoothing {self.smoothing:g}. The feasible set has no "
                "interior there, or the problem is not convex: use another smoothing, state "
                "equalities as `equality`, or use the exact ddn.ImplicitGradient()."
            ),
            (result.y, multipliers),
            SingularSystemError,
        )
        return y, multipliers

    def solve_kkt(
        self,
        right_y: Tensor,
        right_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        operands: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """K⁻¹ applied to a right side; problems without a solution follow ``on_failure``."""
        # Under vmap every tensor may carry dimensions that the others lack, or have as 1.
        point = (y, multipliers, active)
        own = torch.broadcast_shapes(
            *(t.shape[:-1] for t in point), self.problem.batch_shape(operands)
        )
        batch = torch.broadcast_shapes(right_y.shape[:-1], right_multipliers.shape[:-1], own)
        while own and own[0] == 1:
            own = own[1:]
        # Leading dimensions that the point lacks are further right sides of one system.
        own = batch[len(batch) - len(own) :]
        with torch.no_grad():
            factorized = self._factorize(own, y, multipliers, active, operands, ())
            # What follows evaluates the problem anew.
            factorized.system.require_unchanged()
            return self._solve(
                factorized.factorization,
                right_y.expand(*batch, right_y.shape[-1]),
                right_multipliers.expand(*batch, right_multipliers.shape[-1]),
            )

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
        """Gradients of the operands ``needed``, by position, where nobody differentiates them any further.

        F is evaluated once: for all products with K, and for the reverse pass to the operands. None where a
        problem has no solution.
        """
        with torch.no_grad():
            if self.on_failure == "nan" and bool(y.isnan().any()):
                return None
            factorized = self._factorize(
                y.shape[:-1], y, multipliers, active, operands, tuple(needed)
            )
            if not set(needed) <= set(factorized.system.differentiated):
                return None
            u, s = self._solve(factorized.factorization, -grad_y, -grad_multipliers)
            gradients = factorized.system.pull_back(u, s)
            if is_last_backward():
                self.release()
            return gradients

    def _solve(
        self, factorization: KKTFactorization, right_y: Tensor, right_multipliers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """With what ``on_failure`` says for problems without a solution."""
        u, s, failed = factorization.solve(right_y, right_multipliers)
        u, s = apply_policy(
            self.on_failure,
            failed,
            lambda: (
                f"{type(self.problem.node).__name__}: the gradient is not defined for "
                f"{format_indices(failed)}. {factorization.failure}"
            ),
            (u, s),
            SingularSystemError,
        )
        return u, s

    def forget(self) -> None:
        """Drop the factorization that is kept for further passes."""
        self._last.clear()

    def release(self) -> None:
        """Drop all that is kept: a further pass starts from the solution alone."""
        self.forget()
        self._verified.clear()

    def _factorize(
        self,
        batch: torch.Size,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        operands: Sequence[Tensor],
        differentiated: tuple[int, ...],
    ) -> _Factorized:
        """The factorization at a point; the last one serves all passes of one backward.

        The point is compared by identity of memory: it is kept alive here, so that no other tensor can
        take its place.
        """
        point = (y, multipliers, active, *operands)
        if self._last:
            last = self._last[0]
            if last.batch == batch and same_memory(last.point, point):
                return last
        kept = tuple(tensor.detach() for tensor in point)
        system = self._system(batch, kept, differentiated)
        factorization = self.linear_solver.factorize(system)
        self._last[:] = [_Factorized(batch, kept, system, factorization)]
        return self._last[0]

    def _system(
        self, batch: torch.Size, point: tuple[Tensor, ...], differentiated: tuple[int, ...]
    ) -> KKTSystem:
        """The KKT system at (y, μ, active, *operands): that of the verification, or a new one."""
        for system in self._verified:
            same = (system.y, system.multipliers, system.active, *system.operands)
            if (
                system.batch_shape == batch
                and set(differentiated) <= set(system.differentiated)
                and same_memory(same, point)
            ):
                return system
        y, multipliers, active, *operands = point
        first, second, third = (
            _with_batch(t, 1, batch).expand(*batch, t.shape[-1]) for t in (y, multipliers, active)
        )
        shared = [
            _with_batch(operand, rank, batch)
            for operand, rank in zip(operands, self.problem.core_ranks, strict=True)
        ]
        return KKTSystem(self.lagrangian, first, second, third, shared, differentiated)


@dataclass(frozen=True)
class _Factorized:
    """A KKT system and its factorization, with the point where it was made."""

    batch: torch.Size
    point: tuple[Tensor, ...]
    system: KKTSystem
    factorization: KKTFactorization


def _with_batch(tensor: Tensor, core_rank: int, batch: torch.Size) -> Tensor:
    """Without leading dimensions of size 1 that are not in the batch."""
    own = tensor.ndim - core_rank
    while own > len(batch):
        tensor, own = tensor.squeeze(0), own - 1
    return tensor


def failure_message(problem: Problem, solver: Solver, status: Tensor) -> str:
    """Which problems were not solved, why, and what to do."""
    failed = status != Status.CONVERGED
    reasons = "".join(
        f"\n  {format_indices(status == code)}: {Status(code).name}, {Status(code).remedy}."
        for code in sorted(set(status[failed].tolist()))
    )
    return (
        f"{type(problem.node).__name__}: {int(failed.sum())} of {failed.numel()} problem(s) were not "
        f"solved by {getattr(solver, 'name', type(solver).__name__)}.{reasons}"
    )


def same_memory(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether these are views of the same numbers, which have not been modified since."""
    return all(
        not a.is_inference()  # these do not track whether they change
        and not b.is_inference()
        and a.data_ptr() == b.data_ptr()
        and a._version == b._version
        and a.shape == b.shape
        and a.stride() == b.stride()
        for a, b in zip(first, second, strict=True)
    )
