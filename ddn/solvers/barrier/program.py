"""A batch of nonlinear programs as the interior-point method sees them: values and derivatives.

    min f(y)   subject to   h(y) = 0,   g(y) ≤ 0,

with the rows of g as in :class:`ddn.problem.Problem`: those that the node states, then lower and upper
bounds. The Jacobian of bounds is a diagonal of signs: it is never assembled, and costs no reverse passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddn.constraints import flatten_constraints
from ddn.functional import reverse
from ddn.problem import Problem
from ddn.solvers.barrier.batched import Batched

__all__ = [
    "FirstOrder",
    "InequalityJacobian",
    "NodeProgram",
    "Program",
    "Values",
    "fixed_variables",
]


@dataclass(frozen=True)
class InequalityJacobian(Batched):
    """G = ∂g/∂y: rows stated by the node, and the diagonals of lower and upper bounds.

    Attributes:
        stated: ``(batch, r, m)``.
        norms: sizes of the stated rows, fixed variables included, ``(batch, r)``.
        signs: diagonals of the bound rows, ∓1 where the bound exists and 0 elsewhere, ``(batch, 2, m)``;
            None without bounds.
    """

    stated: Tensor
    norms: Tensor
    signs: Tensor | None = None

    def times(self, d: Tensor) -> Tensor:
        """G d, ``(batch, q)``."""
        rows = (self.stated @ d.unsqueeze(-1)).squeeze(-1)
        if self.signs is None:
            return rows
        return torch.cat([rows, (self.signs * d.unsqueeze(-2)).flatten(-2)], -1)

    def transposed_times(self, v: Tensor) -> Tensor:
        """Gᵀ v, ``(batch, m)``."""
        r = self.stated.shape[-2]
        result: Tensor = (v[..., None, :r] @ self.stated).squeeze(-2)
        if self.signs is None:
            return result
        signed = self.signs * v[..., r:].unflatten(-1, self.signs.shape[-2:])
        total: Tensor = result + signed.sum(-2)
        return total

    def gram(self, weight: Tensor) -> Tensor:
        """Gᵀ diag(w) G, ``(batch, m, m)``."""
        r = self.stated.shape[-2]
        result = self.stated.mT @ (weight[..., :r].unsqueeze(-1) * self.stated)
        if self.signs is None:
            return result
        bounds = weight[..., r:].unflatten(-1, self.signs.shape[-2:]) * self.signs.square()
        return result + torch.diag_embed(bounds.sum(-2))

    def row_norms(self) -> Tensor:
        """‖G_i‖, ``(batch, q)``."""
        if self.signs is None:
            return self.norms
        return torch.cat([self.norms, self.signs.abs().flatten(-2)], -1)

    def dense(self) -> Tensor:
        """G, ``(batch, q, m)``."""
        if self.signs is None:
            return self.stated
        return torch.cat([self.stated, torch.diag_embed(self.signs).flatten(-3, -2)], -2)


@dataclass(frozen=True)
class Values(Batched):
    """f ``(batch,)``, h ``(batch, p)`` and g ``(batch, q)``."""

    objective: Tensor
    equality: Tensor
    inequality: Tensor

    def is_finite(self) -> Tensor:
        """Where all of them are finite, ``(batch,)``."""
        finite = self.objective.isfinite() & self.equality.isfinite().all(-1)
        return finite & self.inequality.isfinite().all(-1)


@dataclass(frozen=True)
class FirstOrder(Batched):
    """∇f ``(batch, m)``, A = ∂h/∂y ``(batch, p, m)``, ‖A_i‖ ``(batch, p)`` and G = ∂g/∂y.

    Columns of variables that are constants are zero; ``constant`` ``(batch, m)`` marks them by 1, and is
    None without any.
    """

    gradient: Tensor
    equality: Tensor
    equality_norms: Tensor
    inequality: InequalityJacobian
    constant: Tensor | None = None

    def is_finite(self) -> Tensor:
        """Where all of them are finite, ``(batch,)``."""
        finite = self.gradient.isfinite().all(-1) & self.equality.isfinite().flatten(1).all(-1)
        return finite & self.inequality.stated.isfinite().flatten(1).all(-1)

    def pinned(self, matrix: Tensor) -> Tensor:
        """A matrix ``(batch, m, m)`` with an entry on the diagonal where the variable is a constant."""
        if self.constant is None:
            return matrix
        size = matrix.abs().amax((-2, -1))
        size = torch.where(size > 0, size, 1).unsqueeze(-1)
        return matrix + torch.diag_embed(self.constant * size)

    def pull_back(self, equality: Tensor, inequality: Tensor) -> Tensor:
        """Aᵀλ + Gᵀν, ``(batch, m)``."""
        result = self.inequality.transposed_times(inequality)
        return result + (equality.unsqueeze(-2) @ self.equality).squeeze(-2)


class Program(Protocol):
    """What the interior-point method asks of a batch of problems.

    Attributes:
        exists: which inequality rows there are, ``(batch, q)``; the others are constants.
    """

    @property
    def exists(self) -> Tensor:
        """Rows that there are, ``(batch, q)``."""

    def values(self, y: Tensor) -> Values:
        """f, h and g at y ``(batch, m)``."""

    def evaluate(self, y: Tensor) -> tuple[Values, FirstOrder]:
        """Values and first derivatives at y."""

    def hessian(
        self, y: Tensor, equality: Tensor, inequality: Tensor, objective: float = 1.0
    ) -> Tensor:
        """H = ∇²(ω f + λᵀh + νᵀg), ``(batch, m, m)``, with the weight ω of the objective."""

    def snap(self, y: Tensor, active: Tensor) -> Tensor:
        """y with variables at their bounds where these are active; ``active`` is ``(batch, q)``."""

    def select(self, index: Tensor) -> Program:
        """Some problems of the batch."""


class NodeProgram:
    """The problems of a node. Variables whose bounds agree are constants, and have no rows.

    Args:
        problem: the problem of the node.
        operands: as :meth:`ddn.problem.Problem.flatten_batch` prepares them.
        bounds: lower and upper, ``(batch, 2, m)``; None for a node without bounds.
        like: any point ``(batch, m)``.
    """

    def __init__(
        self, problem: Problem, operands: Sequence[Tensor], bounds: Tensor | None, like: Tensor
    ) -> None:
        self.problem = problem
        self.operands = list(operands)
        self._bounds = bounds
        stated = self._rows(like)
        self._num_equalities = problem.equality(like, self.operands).shape[-1]
        exists = torch.ones_like(stated[:, 1 + self._num_equalities :], dtype=torch.bool)
        self._free: Tensor | None = None
        self._signs: Tensor | None = None
        if bounds is not None:
            fixed = fixed_variables(bounds)
            self._free = (~fixed).to(like.dtype) if bool(fixed.any()) else None
            present = (bounds.abs() != torch.inf) & ~fixed.unsqueeze(-2)
            self._signs = present * like.new_tensor([-1.0, 1.0]).unsqueeze(-1)
            exists = torch.cat([exists, present.flatten(-2)], -1)
        self._exists = exists

    @property
    def exists(self) -> Tensor:
        """Which inequality rows there are, ``(batch, q)``; the others are constants."""
        return self._exists

    def values(self, y: Tensor) -> Values:
        """f, h and g at y ``(batch, m)``."""
        return self._split(y, self._rows(y))

    def evaluate(self, y: Tensor) -> tuple[Values, FirstOrder]:
        """Values and first derivatives at y, by one reverse pass a row, mapped at once."""
        rows, pullback = reverse(self._rows, y)
        basis = torch.eye(rows.shape[-1], dtype=y.dtype, device=y.device)
        basis = basis.unsqueeze(1).expand(-1, *rows.shape)
        jacobian = torch.func.vmap(lambda e: pullback(e)[0])(basis).movedim(0, 1)
        norms = torch.linalg.vector_norm(jacobian, dim=-1)
        if self._free is not None:
            jacobian = jacobian * self._free.unsqueeze(-2)
        p = self._num_equalities
        stated = InequalityJacobian(jacobian[:, 1 + p :], norms[:, 1 + p :], self._signs)
        return self._split(y, rows), FirstOrder(
            jacobian[:, 0],
            jacobian[:, 1 : 1 + p],
            norms[:, 1 : 1 + p],
            stated,
            None if self._free is None else 1 - self._free,
        )

    def hessian(
        self, y: Tensor, equality: Tensor, inequality: Tensor, objective: float = 1.0
    ) -> Tensor:
        """H = ∇²(ω f + λᵀh + νᵀg) by m reverse passes, mapped at once, ``(batch, m, m)``."""
        r = self._exists.shape[-1] - (0 if self._signs is None else 2 * y.shape[-1])
        weights = torch.cat([y.new_full((len(y), 1), objective), equality, inequality[:, :r]], -1)

        def gradient(y: Tensor) -> Tensor:
            result: Tensor = torch.func.grad(lambda y: (weights * self._rows(y)).sum())(y)
            return result

        _, pullback = reverse(gradient, y)
        basis = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
        basis = basis.unsqueeze(1).expand(-1, *y.shape)
        hessian: Tensor = torch.func.vmap(lambda e: pullback(e)[0])(basis).movedim(0, 1)
        if self._free is not None:
            hessian = hessian * self._free.unsqueeze(-1) * self._free.unsqueeze(-2)
        return hessian

    def snap(self, y: Tensor, active: Tensor) -> Tensor:
        """y with variables at their bounds where these are active; ``active`` is ``(batch, q)``."""
        if self._bounds is None:
            return y
        lower, upper = active[:, -2 * y.shape[-1] :].unflatten(-1, (2, -1)).unbind(-2)
        y = torch.where(lower, self._bounds[:, 0], y)
        return torch.where(upper, self._bounds[:, 1], y)

    def select(self, index: Tensor) -> NodeProgram:
        """Some problems of the batch."""
        result = copy(self)
        result.operands = self.problem.select(self.operands, index)
        result._exists = self._exists[index]
        for name in ("_bounds", "_free", "_signs"):
            value = getattr(self, name)
            setattr(result, name, None if value is None else value[index])
        return result

    def _rows(self, y: Tensor) -> Tensor:
        """f, h and the stated rows of g as one vector for every problem, by one mapped call."""
        problem = self.problem

        def single(y: Tensor, *operands: Tensor) -> Tensor:
            rows = [problem.objective_of_one(y, *operands).unsqueeze(0)]
            if problem.has_equality:
                rows.append(problem.equality_of_one(y, *operands))
            if problem.node.inequality is not None:
                stated = problem.call("inequality", operands, *problem.split(y))
                rows.append(flatten_constraints(stated).to(y.dtype))
            return torch.cat(rows)

        return problem.vectorize(single, (1,), (y,), self.operands)

    def _split(self, y: Tensor, rows: Tensor) -> Values:
        p = self._num_equalities
        inequality = rows[:, 1 + p :]
        if self._bounds is not None and self._signs is not None:
            bounds = torch.where(self._signs == 0, 0, self._bounds)
            distance = torch.where(self._signs == 0, -1, self._signs * (y.unsqueeze(-2) - bounds))
            inequality = torch.cat([inequality, distance.flatten(-2)], -1)
        return Values(rows[:, 0], rows[:, 1 : 1 + p], inequality)


def fixed_variables(bounds: Tensor) -> Tensor:
    """Variables whose bounds ``(batch, 2, m)`` agree up to rounding, ``(batch, m)``."""
    lower, upper = bounds.unbind(-2)
    rounding = 4 * torch.finfo(bounds.dtype).eps * torch.maximum(lower.abs(), upper.abs())
    return (upper >= lower) & (upper - lower <= rounding) & lower.isfinite() & upper.isfinite()
