"""The KKT system of a batch of problems, and what solves it.

    K (u, s) = (r_y, r_μ),        K = [[H, Jᵀ], [J, −C]],

symmetric and in general indefinite, as :mod:`ddn.lagrangian` defines it. A linear solver turns a
:class:`KKTSystem` into a :class:`KKTFactorization`, which serves any number of right sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ddn.batching import expand_batch
from ddn.errors import DerivativeError
from ddn.kkt.linearized import Linearized
from ddn.kkt.reduced import ReducedSystem
from ddn.lagrangian import Lagrangian

__all__ = ["KKTFactorization", "KKTSolver", "KKTSystem", "require_linear_solver"]


class KKTFactorization(Protocol):
    """What a linear solver prepares once for a system.

    Attributes:
        failure: cause and remedy where no solution was found, in words.
    """

    failure: str

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """K⁻¹ applied to a right side.

        Args:
            right_y: r_y, ``(*extra, *batch, m)``; leading dimensions that the system does not have
                are further right sides.
            right_multipliers: r_μ, ``(*extra, *batch, p + q)``.

        Returns:
            u and s, shapes as the right side, and a mask ``(*extra, *batch)`` that is true where no
            solution was found.
        """


class KKTSolver(Protocol):
    """Solves KKT systems: the ``linear_solver`` of a gradient."""

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Do once what all right sides share."""


def require_linear_solver(value: object) -> None:
    """Raise TypeError unless the value can factorize KKT systems."""
    if isinstance(value, type) or not callable(getattr(value, "factorize", None)):
        raise TypeError(
            "linear_solver is an object such as ddn.kkt.Dense() (an instance, neither a class nor a name), "
            f"but was given {value!r}."
        )


@dataclass(frozen=True)
class KKTSystem:
    """K at a point, as products and as blocks.

    Attributes:
        lagrangian: of the problem.
        y: ``(*batch, m)``.
        multipliers: μ = (λ, ν), ``(*batch, p + q)``.
        active: the active set among inequality rows, booleans ``(*batch, q)``.
        operands: inputs and captured tensors, batch dimensions broadcast to ``*batch``.
        differentiated: positions of operands whose gradients :meth:`pull_back` will be asked for.
        terms: sizes of the terms that cancel in ∇_y L and in the constraints, ``(*batch,)`` each, if known.
    """

    lagrangian: Lagrangian
    y: Tensor
    multipliers: Tensor
    active: Tensor
    operands: Sequence[Tensor]
    differentiated: tuple[int, ...] = ()
    terms: tuple[Tensor, Tensor] | None = None

    @property
    def batch_shape(self) -> torch.Size:
        """``*batch``."""
        return self.y.shape[:-1]

    @property
    def num_variables(self) -> int:
        """m."""
        return self.y.shape[-1]

    @property
    def num_constraints(self) -> int:
        """p + q, bounds included."""
        return self.multipliers.shape[-1]

    @property
    def num_bound_rows(self) -> int:
        """2m rows of bounds, the last ones, or none."""
        return self.lagrangian.problem.num_bound_rows if self.num_constraints else 0

    @property
    def num_general_rows(self) -> int:
        """p + k: equality rows and rows of ``inequality``."""
        return self.num_constraints - self.num_bound_rows

    @property
    def stationarity(self) -> Tensor:
        """∇_y L, ``(*batch, m)``."""
        return self.linearized.values[0]

    @property
    def name(self) -> str:
        """Of the node, for messages."""
        return type(self.lagrangian.problem.node).__name__

    def product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """K (u, s); the direction may have more leading dimensions than the point."""
        batch = torch.broadcast_shapes(self.y.shape[:-1], u.shape[:-1])
        y = self.y.expand(*batch, self.num_variables)
        multipliers = self.multipliers.expand(*batch, self.num_constraints)
        active = self.active.expand(*batch, self.active.shape[-1])
        return self.lagrangian.kkt_product(
            y, multipliers, active, self.operands, (u.expand_as(y), s.expand_as(multipliers))
        )

    @cached_property
    def corner(self) -> Tensor:
        """Diagonal of C, ``(*batch, p + q)``: zero for equality rows and active rows."""
        q = self.active.shape[-1]
        result = torch.zeros_like(self.multipliers)
        if q and self.lagrangian.barrier:
            result[..., -q:] = self.lagrangian.barrier / self.multipliers[..., -q:].square()
        elif q:
            result[..., -q:] = (~self.active).to(result.dtype)
        return result

    @cached_property
    def row_weight(self) -> Tensor:
        """1 for rows that are part of J, 0 for inactive ones, ``(*batch, p + q)``."""
        q = self.active.shape[-1]
        result = torch.ones_like(self.multipliers)
        if q and not self.lagrangian.barrier:
            result[..., -q:] = self.active.to(result.dtype)
        return result

    def hessian(self) -> Tensor:
        """H, ``(*batch, m, m)``."""
        m, like = self.num_variables, self.y
        if not self.linearized.maps_at_once(m):
            self.require_unchanged()
            return self.lagrangian.hessian(like, self.multipliers, self.active, self._constants)
        basis = torch.eye(m, dtype=like.dtype, device=like.device)
        basis = basis.reshape(m, *(1,) * (like.ndim - 1), m)
        return self.hessian_product(basis.expand(m, *like.shape)).movedim(0, -2)

    def require_unchanged(self) -> None:
        """Raise DerivativeError if the problem is not any more what it was when F was evaluated.

        Only where the sizes of the terms are known, which tell a change from rounding errors.
        """
        if self.terms is None:
            return
        now = self.lagrangian.stationarity(self.y, self.multipliers, self.active, self._constants)
        limit = torch.finfo(self.y.dtype).eps ** 0.5
        for value, then, size in zip(now, self.linearized.values, self.terms, strict=True):
            changed = (value - then).abs() > limit * size.unsqueeze(-1)
            if bool((changed | (value.isnan() != then.isnan())).any()):
                raise DerivativeError(
                    f"{self.name}: the problem has changed between its solution and its derivative (something"
                    " that it uses, but that is neither input nor parameter, was modified): the gradient "
                    "would be that of neither. Make it an input, or change it after backward."
                )

    def hessian_terms(self, hessian: Tensor) -> Tensor:
        """Absolute values of ∂²f/∂y² and of H − ∂²f/∂y², added entry by entry: the terms of H."""
        if not self.num_constraints:
            return hessian.abs()
        nothing = torch.zeros_like(self.multipliers)
        objective = Lagrangian(self.lagrangian.problem).hessian(
            self.y, nothing, self.active, self.operands
        )
        return objective.abs() + (hessian - objective).abs()

    def significant(self, hessian: Tensor) -> Tensor:
        """H without entries that are rounding errors, where objective and constraints cancel."""
        limit = 100 * torch.finfo(hessian.dtype).eps * self.hessian_terms(hessian)
        return torch.where(hessian.abs() <= limit, 0, hessian)

    def jacobian(self) -> Tensor:
        """J, ``(*batch, p + q, m)``, with rows of zeros where inactive."""
        general = self.general_jacobian()
        if not self.num_bound_rows:
            return general
        bounds = self.lagrangian.problem.bound_jacobian(self.y, self._constants)
        held = self.row_weight[..., self.num_general_rows :, None] > 0
        return torch.cat([general, torch.where(held, bounds, 0)], -2)

    @cached_property
    def linearized(self) -> Linearized:
        """F at the point, built once: the products below and :meth:`pull_back` are reverse passes through it.

        Memory is that of one evaluation of F for as long as the system is kept.
        """
        lagrangian, active, operands = self.lagrangian, self.active, self._constants

        def conditions(y: Tensor, multipliers: Tensor, *moved: Tensor) -> tuple[Tensor, Tensor]:
            whole = list(operands)
            for position, value in zip(self.differentiated, moved, strict=True):
                whole[position] = value
            return lagrangian.stationarity(y, multipliers, active, whole)

        moving = [operands[position] for position in self.differentiated]
        return Linearized(conditions, self.y, self.multipliers, *moving, size=self._work_size)

    def evaluated(self, terms: tuple[Tensor, Tensor]) -> KKTSystem:
        """The same with F evaluated now, if it was not before, and with the sizes of its terms."""
        result = replace(self, terms=terms)
        result.__dict__["linearized"] = self.linearized
        return result

    def repeated_product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """K (u, s) for ``(*extra, *batch, m)`` and ``(*extra, *batch, p + q)``; constant in the point."""
        first, second = self.linearized.pull_back((u, s), (0, 1))
        return first, second

    def final_product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """K (u, s) where that may be the last product: the same pass goes on to the operands.

        :meth:`pull_back` of the very same tensors then costs nothing.
        """
        if not self.differentiated or u.shape != self.y.shape:
            return self.repeated_product(u, s)
        everything = range(2 + len(self.differentiated))
        first, second, *found = self.linearized.pull_back((u, s), everything)
        self._found[:] = [(u, s, found)]
        return first, second

    def hessian_product(self, u: Tensor) -> Tensor:
        """H u for ``(*extra, *batch, m)``, likewise."""
        return self.linearized.pull_back((u, None), (0,))[0]

    def pull_back(self, u: Tensor, s: Tensor) -> dict[int, Tensor]:
        """∂/∂x ⟨(u, s), F(x, y, μ)⟩ for the operands ``differentiated``, by position."""
        found: Sequence[Tensor]
        if self._found and self._found[0][0] is u and self._found[0][1] is s:
            found = self._found.pop()[2]
        else:
            wanted = range(2, 2 + len(self.differentiated))
            found = self.linearized.pull_back((u, s), wanted)
        return dict(zip(self.differentiated, found, strict=True))

    @cached_property
    def _found(self) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
        return []

    @property
    def _constants(self) -> list[Tensor]:
        """Operands, without the graph that they come from."""
        return [operand.detach() for operand in self.operands]

    @property
    def _work_size(self) -> int:
        return self.y.numel() + self.multipliers.numel() + sum(t.numel() for t in self.operands)

    def general_jacobian(self) -> Tensor:
        """Rows of J that are no bounds, ``(*batch, p + k, m)``: one reverse pass each."""
        rows, like = self.num_general_rows, self.y
        if not rows:
            return like.new_zeros(*like.shape[:-1], 0, self.num_variables)
        basis = torch.eye(rows, self.num_constraints, dtype=like.dtype, device=like.device)
        basis = basis.reshape(rows, *(1,) * (like.ndim - 1), -1)
        jacobian = self.linearized.pull_back((None, basis), (0,))[0].movedim(0, -2)
        if not self.active.shape[-1] or self.lagrangian.barrier:
            return jacobian
        # Not a product with the weight: what is inactive may be infinite.
        return torch.where(self.row_weight[..., :rows, None] > 0, jacobian, 0)

    def select(self, index: Tensor) -> KKTSystem:
        """The problems ``index`` of the flattened batch, as a system with one batch dimension."""
        batch = self.batch_shape

        def pick(tensor: Tensor, rank: int) -> Tensor:
            whole = expand_batch(tensor, rank, batch)
            return whole.reshape(batch.numel(), *tensor.shape[tensor.ndim - rank :])[index]

        ranks = self.lagrangian.problem.core_ranks
        operands = [
            operand.reshape(operand.shape[operand.ndim - rank :])
            if operand.shape[: operand.ndim - rank].numel() == 1
            else pick(operand, rank)
            for operand, rank in zip(self.operands, ranks, strict=True)
        ]
        return KKTSystem(
            self.lagrangian,
            pick(self.y, 1),
            pick(self.multipliers, 1),
            pick(self.active, 1),
            operands,
        )

    def reduced(self) -> ReducedSystem:
        """The dense system without rows that can be eliminated; see :class:`ReducedSystem`."""
        return ReducedSystem.of(self.hessian(), self.jacobian(), self.corner)
