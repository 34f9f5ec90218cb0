"""A solution of a batch of quadratic programs: made exact on its active set, and measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.generic import generic_signs, generic_vector
from ddn.optimality import Optimality, Scales, largest, relative_to
from ddn.quadratic.active_set import ActiveSetSystem
from ddn.quadratic.data import QuadraticData, times

__all__ = ["QuadraticPoint"]


@dataclass(frozen=True)
class QuadraticPoint:
    """y and multipliers of all rows, with their optimality conditions.

    Attributes:
        data: of the problems, one batch dimension or none.
        y: ``(batch, n)``.
        rows: λ and ν of A and G, ``(batch, p + k)``.
        lower: multipliers of lower bounds, ``(batch, n)``; None without bounds of any kind.
        upper: of upper bounds, likewise.
    """

    data: QuadraticData
    y: Tensor
    rows: Tensor
    lower: Tensor | None = None
    upper: Tensor | None = None

    @classmethod
    def of(cls, data: QuadraticData, y: Tensor, multipliers: Tensor) -> QuadraticPoint:
        """From μ = (λ, ν, lower bounds, upper bounds), ``(batch, p + q)``."""
        if not data.has_bounds:
            return cls(data, y, multipliers)
        n = y.shape[-1]
        rows = multipliers.shape[-1] - 2 * n
        return cls(data, y, *multipliers.split([rows, n, n], -1))

    @property
    def multipliers(self) -> Tensor:
        """μ, ``(batch, p + q)``."""
        if self.lower is None or self.upper is None:
            return self.rows
        return torch.cat([self.rows, self.lower, self.upper], -1)

    @property
    def gradient(self) -> Tensor:
        """∇f = Q y + q, ``(batch, n)``."""
        return times(self.data.symmetric, self.y) + self.data.q

    @property
    def stationarity(self) -> Tensor:
        """∇_y L, ``(batch, n)``."""
        result = self.gradient + times(self.data.rows.mT, self.rows)
        if self.lower is None or self.upper is None:
            return result
        return result - self.lower + self.upper

    def repeated_product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Q u and J u, bound rows included; s is zero wherever this is asked for."""
        second = times(self.data.rows, u)
        if self.lower is not None:
            lower, upper = self.data.bounds
            below, above = (torch.where(bound.isfinite(), u, 0) for bound in (lower, upper))
            second = torch.cat([second, -below, above], -1)
        return times(self.data.symmetric, u), second

    def constraints(self) -> Tensor:
        """A y − b, G y − h, l − y, y − u, ``(batch, p + q)``; −1 for what is infinite."""
        value = times(self.data.rows, self.y) - self.data.right
        if self.data.h is not None:
            value = torch.where(value == -torch.inf, -1, value)
        if self.lower is None:
            return value
        lower, upper = self.data.bounds
        below = torch.where(lower == -torch.inf, -1, lower - self.y)
        return torch.cat([value, below, torch.where(upper == torch.inf, -1, self.y - upper)], -1)

    def optimality(self, start: Tensor) -> Optimality:
        """Residuals and active set, as :mod:`ddn.optimality` defines them.

        Args:
            start: where solvers start, ``(batch, n)``.
        """
        data, y = self.data, self.y
        gradient, p = self.gradient, data.num_equalities
        eps = torch.finfo(y.dtype).eps
        floor = torch.zeros_like(y[:, 0])
        small = largest(y) <= eps**0.25 * largest(start)
        if bool(small.any()):
            initial = largest(times(data.symmetric, start) + data.q).nan_to_num(0, 0, 0)
            floor = torch.where(small, eps**0.625 * initial, 0)
        norms = torch.linalg.vector_norm(data.rows, dim=-1)[..., p:]
        norms = norms.expand(len(y), norms.shape[-1])
        if self.lower is not None:
            finite = torch.cat([bound.isfinite().to(y.dtype) for bound in data.bounds], -1)
            norms = torch.cat([norms, finite.expand(len(y), finite.shape[-1])], -1)
        constraint = self.constraints()
        if not norms.shape[-1]:
            terms = torch.maximum(largest(gradient), floor)
            scales = Scales(gradient, largest(y), terms, terms, norms, constraint)
        else:
            curvature = largest(times(data.symmetric, generic_signs(y)))
            bounds = 0 if self.lower is None else 2 * y.shape[-1]
            scales = Scales.of(gradient, y, start, floor, curvature, norms, constraint, bounds)
        return Optimality.at(self, scales)

    def polished(self) -> tuple[QuadraticPoint, ActiveSetSystem, Tensor]:
        """The solution on the active set that multipliers and slacks tell: exact to rounding.

        Returns:
            The point, the system that was solved, and its active set ``(batch, q)``.
        """
        data, p = self.data, self.data.num_equalities
        force = largest(torch.cat([self.gradient, times(data.rows.mT, self.rows)], -1))
        length = largest(self.y)
        force = torch.where(force > 0, force, 1).unsqueeze(-1)
        length = torch.where(length > 0, length, 1).unsqueeze(-1)
        norms = torch.linalg.vector_norm(data.rows, dim=-1)[..., p:]
        slack = (data.right - times(data.rows, self.y))[:, p:]
        held = self.rows[:, p:] * norms / force > relative_to(slack, norms * length)
        kept = torch.cat([held.new_ones(len(held), p), held], -1)
        y, free, sides = self.y, None, []
        if self.lower is not None and self.upper is not None:
            lower, upper = data.bounds
            below = (self.lower / force > (y - lower) / length) & lower.isfinite()
            above = (self.upper / force > (upper - y) / length) & upper.isfinite()
            same = (lower == upper).expand_as(below)
            y = torch.where(below | same, lower, torch.where(above, upper, y))
            free, sides = ~(below | above | same), [below | same, above | same]
        system = ActiveSetSystem.of(data, kept, free)
        rows = torch.where(kept, self.rows, 0)
        start = QuadraticPoint(data, y, rows)
        u, s = system.solve(-start.stationarity, -start.constraints())
        point = QuadraticPoint(data, y + u, rows + s)
        if sides:
            left = point.stationarity
            one_sided = [side & ~other for side, other in zip(sides, sides[::-1], strict=True)]
            signed = [left, -left]
            found = [
                torch.where(side, torch.where(only, value, value.clamp_min(0)), 0)
                for side, only, value in zip(sides, one_sided, signed, strict=True)
            ]
            point = replace(point, lower=found[0], upper=found[1])
        return point, system, torch.cat([held, *sides], -1)

    def where(self, mask: Tensor, other: QuadraticPoint) -> QuadraticPoint:
        """This point where ``mask`` is true, the other one elsewhere."""
        y, multipliers = (
            torch.where(mask.unsqueeze(-1), mine, its)
            for mine, its in ((self.y, other.y), (self.multipliers, other.multipliers))
        )
        return QuadraticPoint.of(self.data, y, multipliers)


def generic_start(like: Tensor) -> Tensor:
    """The starting point of problems that state none, ``(1, n)``."""
    n = like.shape[-1]
    start: Tensor = generic_vector(like) / n**0.5
    return start.unsqueeze(0)
