"""Problems whose constraints are too tight for an interior point: constraints made elastic.

    min_{y, t}  ω f(y) + w Σ t_i   subject to   |h_i| ≤ n_i t_i,   g_i ≤ n_i t_i,   t ≥ 0,   and
    the bounds of y,

always has an interior. With n_i the size of the gradient of a row, t is a distance and w a force.
For ω = 1 and w large enough its solution is that of
the problem itself, with t = 0 (an exact penalty). For ω = 0 it tells whether the constraints can be
satisfied at all: where they cannot, t > 0. (Fletcher 1987, section 12.3; Gill, Murray and Saunders 2005,
section 1.)
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from ddn.optimality import largest
from ddn.solvers.barrier.iterate import Iterate
from ddn.solvers.barrier.program import FirstOrder, InequalityJacobian, Program, Values

__all__ = ["ElasticProgram"]


class ElasticProgram:
    """The elastic form of a batch of problems, in the variables z = (y, t).

    Args:
        program: the problems.
        objective: ω, 0 or 1.
        weight: w, ``(batch,)``.
        norms: n, ``(batch, p + r)``, for the rows of h and the stated rows of g.
        center: where y stays near if several points do, ``(batch, m)``.
        proximal: weight of ½‖y − center‖² in the objective, ``(batch,)``.
    """

    def __init__(
        self,
        program: Program,
        objective: float,
        weight: Tensor,
        norms: Tensor,
        center: Tensor,
        proximal: Tensor,
    ) -> None:
        self.program, self.objective = program, objective
        self.weight, self.norms, self.center, self.proximal = weight, norms, center, proximal
        self._p = program.values(center).equality.shape[-1]
        self._r = norms.shape[-1] - self._p
        exists = norms.new_ones(len(norms), 2 * self._p + self._r, dtype=torch.bool)
        elastic = torch.zeros_like(norms, dtype=torch.bool)
        lower, upper = elastic.clone(), elastic
        lower[:, self._p :] = True
        bounds = program.exists[:, self._r :]
        bounds = (
            bounds if bounds.shape[-1] else torch.zeros_like(center, dtype=torch.bool).repeat(1, 2)
        )
        below, above = bounds.unflatten(-1, (2, -1)).unbind(-2)
        self._exists = torch.cat([exists, below, lower, above, upper], -1)

    @property
    def exists(self) -> Tensor:
        """See :class:`ddn.solvers.barrier.program.Program`."""
        return self._exists

    def start(self, y: Tensor) -> Tensor:
        """A point z with t inside its constraints."""
        values = self.program.values(y)
        violation = torch.cat(
            [values.equality.abs(), values.inequality[:, : self._r].clamp_min(0)], -1
        )
        violation = violation / self.norms
        size = torch.maximum(largest(violation), 1e-2 * largest(y)).unsqueeze(-1)
        return torch.cat([y, violation + 0.1 * torch.where(size > 0, size, 1)], -1)

    def values(self, y: Tensor) -> Values:
        """See :class:`ddn.solvers.barrier.program.Program`."""
        y, t = self._split(y)
        return self._values(self.program.values(y), y, t)

    def evaluate(self, y: Tensor) -> tuple[Values, FirstOrder]:
        """See :class:`ddn.solvers.barrier.program.Program`."""
        y, t = self._split(y)
        values, first = self.program.evaluate(y)
        gradient = self.objective * first.gradient + self.proximal.unsqueeze(-1) * (y - self.center)
        p, m = self._p, y.shape[-1]
        rows = torch.cat([first.equality, -first.equality, first.inequality.stated], -2)
        diagonal = torch.diag_embed(-self.norms)
        minus = torch.cat([diagonal[:, :p], diagonal], -2)
        stated = torch.cat([rows, minus], -1)
        sign = t.new_tensor([-1.0, 1.0]).unsqueeze(-1)
        signs = self._exists[:, rows.shape[-2] :].unflatten(-1, (2, -1)) * sign
        return self._values(values, y, t), FirstOrder(
            torch.cat([gradient, self.weight.unsqueeze(-1).expand_as(t)], -1),
            first.equality.new_zeros(len(y), 0, m + t.shape[-1]),
            first.equality.new_zeros(len(y), 0),
            InequalityJacobian(stated, torch.linalg.vector_norm(stated, dim=-1), signs),
            None
            if first.constant is None
            else torch.cat([first.constant, torch.zeros_like(t)], -1),
        )

    def hessian(
        self, y: Tensor, equality: Tensor, inequality: Tensor, objective: float = 1.0
    ) -> Tensor:
        """See :class:`ddn.solvers.barrier.program.Program`."""
        y, t = self._split(y)
        hessian = self.program.hessian(
            y, *self._multipliers(inequality), objective * self.objective
        )
        identity = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
        hessian = hessian + self.proximal[:, None, None] * identity
        k = t.shape[-1]
        return torch.nn.functional.pad(hessian, (0, k, 0, k))

    def snap(self, y: Tensor, active: Tensor) -> Tensor:
        """See :class:`ddn.solvers.barrier.program.Program`."""
        return y

    def select(self, index: Tensor) -> ElasticProgram:
        """Some problems of the batch."""
        result = copy(self)
        result.program = self.program.select(index)
        for name in ("weight", "norms", "center", "proximal", "_exists"):
            setattr(result, name, getattr(self, name)[index])
        return result

    def original(self, point: Iterate) -> Iterate:
        """The point that an elastic one stands for, slacks and multipliers included."""
        y, _ = self._split(point.y)
        values, first = self.program.evaluate(y)
        equality, inequality = self._multipliers(point.inequality)
        exists = self.program.exists
        slack = torch.where(exists, (-values.inequality).clamp_min(0), 1)
        inequality = torch.where(exists, inequality[:, : exists.shape[-1]], 0)
        return replace(
            point,
            y=y,
            slack=slack,
            equality=equality,
            inequality=inequality,
            values=values,
            first=first,
        )

    def _split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        m = self.center.shape[-1]
        return y[:, :m], y[:, m:]

    def _values(self, values: Values, y: Tensor, t: Tensor) -> Values:
        objective = self.objective * values.objective + self.weight * t.sum(-1)
        distance = (y - self.center).square().sum(-1)
        h, g = values.equality, values.inequality
        p, r = self._p, self._r
        bounds = g[:, r:] if g.shape[-1] > r else -torch.ones_like(y).repeat(1, 2)
        below, above = bounds.unflatten(-1, (2, -1)).unbind(-2)
        constant = -torch.ones_like(t)
        lower = torch.cat([constant[:, :p], -t[:, p:]], -1)
        s = self.norms * t
        rows = [h - s[:, :p], -h - s[:, :p], g[:, :r] - s[:, p:], below, lower, above, constant]
        return Values(
            objective + 0.5 * self.proximal * distance, h.new_zeros(len(h), 0), torch.cat(rows, -1)
        )

    def _multipliers(self, inequality: Tensor) -> tuple[Tensor, Tensor]:
        p, r, m = self._p, self._r, self.center.shape[-1]
        equality = inequality[:, :p] - inequality[:, p : 2 * p]
        stated, bounds = inequality[:, 2 * p : 2 * p + r], inequality[:, 2 * p + r :]
        below, above = bounds.unflatten(-1, (2, -1)).unbind(-2)
        return equality, torch.cat([stated, below[:, :m], above[:, :m]], -1)
