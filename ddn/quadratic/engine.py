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
from ddn.quadratic.active_set import ActiveSetSystem
from ddn.quadratic.balance import Balanced
from ddn.quadratic.data import QuadraticData, times
from ddn.quadratic.finish import made_exact
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
    _kept: list[_Kept] = field(default_factory=list, init=False, repr=False, compare=False)

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
        stated = _Stated.at(problem, operands, self.differentiated)
        problem.remember(operands, stated.data)
        with torch.no_grad():
            result = solver.solve(problem, operands)
            if result.multipliers is None:
                return self.general.solve(operands)
            y = result.y.reshape(batch.numel(), -1)
            balanced = problem.balanced(operands)
            found = QuadraticPoint.of(
                balanced.data,
                *balanced.to_balanced(y, result.multipliers.reshape(len(y), -1)),
            )
            start = self._start(operands, y)
            if balanced.units is not None:
                start = start / balanced.units
            point, optimality, system = made_exact(found, start)
            residuals = optimality.residuals
            solved = (residuals <= acceptable_residual(y.dtype)).all(0)
            y, multipliers = balanced.to_original(point.y, point.multipliers)
            finite = residuals.isfinite().all(0) & y.isfinite().all(-1)
            status = result.status.reshape(-1)
            claimed = status == Status.CONVERGED
            status = torch.where(claimed & ~solved, int(Status.NOT_STATIONARY), status)
            status = torch.where(claimed & ~finite, int(Status.NOT_FINITE), status)
            y, multipliers, status = (
                t.reshape((*batch, *t.shape[1:])) for t in (y, multipliers, status)
            )
            y, multipliers = apply_policy(
                self.on_failure,
                status != Status.CONVERGED,
                lambda: failure_message(problem, solver, status),
                (y, multipliers),
            )
            active, weakly_active = (
                t.reshape((*batch, t.shape[-1]))
                for t in (optimality.active, optimality.weakly_active)
            )
            # What is returned is what is kept: copied here, or it would be on the way out.
            y, multipliers, active = own_memory((y, multipliers, active))
            if self.differentiated:
                values = (y, multipliers, active, *operands)
                self._kept[:] = [_Kept(_detached(values), stated, balanced, system)]
        return (
            y,
            multipliers,
            active,
            weakly_active,
            status,
            result.iterations,
            *residuals.reshape((-1, *batch)).unbind(0),
        )

    def _start(self, operands: Sequence[Tensor], y: Tensor) -> Tensor:
        if self.problem.node.starting_point is None:
            return generic_start(y)
        return self.problem.starting_point(operands).reshape(y.shape)

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
            if not bool(y.isnan().any()):
                kept = self._keep(point, needed)
                found = kept.pull_back(grad_y, grad_multipliers, y, multipliers, active, needed)
            if is_last_backward():
                self.release()
        if found is not None:
            return found
        return self.general.pull_back(
            grad_y, grad_multipliers, y, multipliers, active, operands, needed
        )

    def _keep(self, point: tuple[Tensor, ...], needed: Sequence[int]) -> _Kept:
        for kept in self._kept:
            if set(needed) <= set(kept.stated.differentiated) and same_memory(kept.point, point):
                return kept
        stated = _Stated.at(self.problem, point[3:], tuple(needed))
        return _Kept(_detached(point), stated, Balanced.of(stated.data), None)

    def forget(self) -> None:
        """Drop the factorization that is kept for further passes."""
        self._kept[:] = [replace(kept, system=None) for kept in self._kept]
        self.general.forget()

    def release(self) -> None:
        """Drop all that is kept."""
        self._kept.clear()
        self.general.release()


def _detached(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor.detach() for tensor in tensors)


@dataclass(frozen=True)
class _Stated:
    """The matrices of a problem, and how they depend on its operands.

    Attributes:
        leaves: operands, ``(*batch, *core)``, those that are differentiated requiring grad.
        graph: the matrices as functions of the leaves, one batch dimension or none.
        data: the same as constants.
        differentiated: positions of operands.
    """

    leaves: Sequence[Tensor]
    graph: QuadraticData
    data: QuadraticData
    differentiated: tuple[int, ...]

    @classmethod
    def at(
        cls, problem: Problem, operands: Sequence[Tensor], differentiated: tuple[int, ...]
    ) -> _Stated:
        leaves = [
            operand.detach().requires_grad_(position in differentiated)
            for position, operand in enumerate(operands)
        ]
        with torch.enable_grad():
            graph = problem.quadratic_program(problem.flatten_batch(leaves))
        return cls(leaves, graph, graph.map(torch.Tensor.detach), differentiated)

    def pull_back(self, cotangents: dict[str, Tensor], needed: Sequence[int]) -> dict[int, Tensor]:
        """From cotangents of the matrices to gradients of the operands."""
        outputs = [
            (value, cotangents[name])
            for name, value in self.graph.parts().items()
            if value.requires_grad and name in cotangents
        ]
        wanted = [self.leaves[position] for position in needed]
        gradients = torch.autograd.grad(
            [value for value, _ in outputs],
            wanted,
            [cotangent for _, cotangent in outputs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(needed, gradients, strict=True))


@dataclass(frozen=True)
class _Kept:
    """A solution, its matrices and the system of its active set.

    Attributes:
        point: y, μ, active and the operands.
        stated: the matrices.
        balanced: the same in units in which variables are alike.
        system: of the active set; None if it is still to be factorized.
    """

    point: tuple[Tensor, ...]
    stated: _Stated
    balanced: Balanced
    system: ActiveSetSystem | None

    def pull_back(
        self,
        grad_y: Tensor,
        grad_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        needed: Sequence[int],
    ) -> dict[int, Tensor] | None:
        """Gradients of operands by position; None where the system is not regular."""
        data = self.stated.data
        n, p, k = data.num_variables, data.num_equalities, data.num_inequalities
        y, grad_y = (t.reshape(-1, n) for t in (y, grad_y))
        multipliers, grad_multipliers = (
            t.reshape(len(y), -1) for t in (multipliers, grad_multipliers)
        )
        active = active.reshape(len(y), -1)
        if data.has_bounds and bool((grad_multipliers[:, p + k :] != 0).any()):
            return None
        system = self.system or _active_set_system(self.balanced.data, active)
        units = self.balanced.units
        right_y = -grad_y if units is None else -grad_y * units
        u, s, error = system.refined(right_y, -grad_multipliers[:, : p + k])
        u = u if units is None else u * units
        if not bool((error <= torch.finfo(y.dtype).eps ** 0.5).all()):
            return None
        rows = multipliers[:, : p + k]
        cotangents = {"q": u, **self._rows(u, s, y, rows)}
        cross = _outer(u, y, data.Q.ndim)
        cotangents["Q"] = (cross + cross.mT) / 2
        if data.has_bounds:
            force = grad_y + times(data.symmetric, u) + times(data.rows.mT, s)
            lower, upper = active[:, k : k + n], active[:, k + n :]
            # A variable whose bounds agree is moved by both together: half of it by each.
            share = torch.where(lower & upper, 0.5, 1.0).to(y.dtype)
            cotangents["lower"] = torch.where(lower, force * share, 0)
            cotangents["upper"] = torch.where(upper, force * share, 0)
        shapes = self.stated.graph.parts()
        cotangents = {
            name: _summed(value, shapes[name])
            for name, value in cotangents.items()
            if name in shapes
        }
        return self.stated.pull_back(cotangents, needed)

    def _rows(self, u: Tensor, s: Tensor, y: Tensor, rows: Tensor) -> dict[str, Tensor]:
        data, p = self.stated.data, self.stated.data.num_equalities
        result = {}
        for names, part in ((("A", "b"), slice(0, p)), (("G", "h"), slice(p, None))):
            matrix = getattr(data, names[0])
            if matrix is not None:
                first = _outer(rows[:, part], u, matrix.ndim)
                result[names[0]] = first + _outer(s[:, part], y, matrix.ndim)
                result[names[1]] = -s[:, part]
        return result


def _active_set_system(data: QuadraticData, active: Tensor) -> ActiveSetSystem:
    n, p, k = data.num_variables, data.num_equalities, data.num_inequalities
    kept = torch.cat([active.new_ones(len(active), p), active[:, :k]], -1)
    free = ~(active[:, k : k + n] | active[:, k + n :]) if data.has_bounds else None
    return ActiveSetSystem.of(data, kept, free)


def _outer(a: Tensor, b: Tensor, ndim: int) -> Tensor:
    """a bᵀ for every problem; summed over them for a matrix that they share."""
    return a.mT @ b if ndim == 2 else a.unsqueeze(-1) * b.unsqueeze(-2)


def _summed(value: Tensor, like: Tensor) -> Tensor:
    return value.sum(0) if value.ndim > like.ndim else value
