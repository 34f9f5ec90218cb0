"""A solution of a batch of quadratic programs: made exact on its active set, and measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ddn.generic import generic_vector
from ddn.optimality import ROUNDING, WEAK_MARGIN, Optimality, acceptable_residual, largest
from ddn.quadratic.active_set import ActiveSetSystem
from ddn.quadratic.data import QuadraticData, nonzero, times

__all__ = ["QuadraticPoint", "generic_start"]


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
        return self.gradient + self._forces()

    def constraints(self) -> Tensor:
        """A y − b, G y − h, l − y, y − u, ``(batch, p + q)``; −∞ where there is no constraint."""
        value = times(self.data.rows, self.y) - self.data.right
        if self.lower is None:
            return value
        lower, upper = self.data.bounds
        return torch.cat([value, lower - self.y, self.y - upper], -1)

    def sizes(self, length: Tensor) -> Tensor:
        """Sizes of the terms of all rows, not smaller than ε^(1/4) ‖row‖ times a length, ``(batch, p + q)``.

        Args:
            length: of y, ``(batch, 1)``.
        """
        data, y = self.data, self.y.abs()
        least = torch.finfo(y.dtype).eps ** 0.25 * length
        right = data.right.abs()
        sizes = times(data.row_sizes, y) + right.masked_fill(right == torch.inf, 0)
        sizes = torch.maximum(sizes, data.row_norms * least)
        if self.lower is None:
            return nonzero(sizes)
        own = [y + side.abs().masked_fill(side.abs() == torch.inf, 0) for side in data.bounds]
        return nonzero(torch.cat([sizes, *(torch.maximum(part, least) for part in own)], -1))

    def optimality(self, start: Tensor) -> Optimality:
        """Residuals and active set, relative as in :mod:`ddn.optimality`.

        Args:
            start: where solvers start, ``(batch, n)``: what a length is where y is zero.
        """
        data, y, p = self.data, self.y, self.data.num_equalities
        eps = torch.finfo(y.dtype).eps
        product = times(data.symmetric, y)
        gradient, forces = product + data.q, self._forces()
        terms = torch.stack([gradient, forces, product]).abs().amax((0, -1))
        size = largest(y)
        small = size <= eps**0.25 * largest(start)
        if bool(small.any()):
            initial = largest(times(data.symmetric, start) + data.q)
            floor = eps**0.625 * initial.nan_to_num(0, 0, 0)
            terms = torch.maximum(terms, torch.where(small, floor, 0))
        scale = nonzero(terms)
        stationarity = largest(gradient + forces) / scale
        value = self.constraints()
        if not value.shape[-1]:
            nothing, none = torch.zeros_like(size), value > 0
            return Optimality(stationarity, nothing, nothing, nothing, none, none, (terms, nothing))
        # The length of y: where it is zero, how far ∇f would move it, but not beyond the start.
        natural = torch.minimum(largest(gradient) / nonzero(data.curvature), largest(start))
        length = torch.maximum(size, natural)
        length = torch.where(length > 0, length, largest(start)).unsqueeze(-1)
        norms, reach = self._norms(), self.sizes(length)
        equality = largest(value[:, :p] / reach[:, :p])
        if value.shape[-1] == p:
            nothing, none = torch.zeros_like(size), value[:, p:] > 0
            return Optimality(stationarity, equality, nothing, nothing, none, none, (terms, length))
        slack = -value[:, p:] / reach[:, p:]
        violation, slack = (-slack).clamp_min(0), slack.clamp_min(0)
        signed = self.multipliers[:, p:] * (norms[..., p:] / scale.unsqueeze(-1))
        nu = signed.abs()
        complementarity = torch.minimum(nu, slack)
        worst = torch.stack([complementarity, violation, (-signed).clamp_min(0)]).amax(-1)
        # A point that is far from any solution says nothing about kinks.
        accuracy = torch.maximum(worst[0], worst[1])
        accuracy = accuracy.masked_fill(~(accuracy <= acceptable_residual(y.dtype)), 0)
        both, resolved = torch.maximum(nu, slack), (WEAK_MARGIN * accuracy).unsqueeze(-1)
        resolved = resolved.clamp_min(ROUNDING * eps)
        return Optimality(
            stationarity,
            torch.maximum(equality, worst[1]),
            worst[2],
            worst[0],
            (both <= resolved) & self._touches(slack) | (nu >= slack),
            both <= resolved.clamp_min(eps**0.5),
            (terms, largest(reach)),
        )

    def _forces(self) -> Tensor:
        """Jᵀμ of all rows, ``(batch, n)``."""
        result = times(self.data.rows.mT, self.rows)
        if self.lower is None or self.upper is None:
            return result
        return result - self.lower + self.upper

    def _norms(self) -> Tensor:
        """Lengths of all rows, ``(batch, p + q)`` or shared."""
        norms = self.data.row_norms
        if self.lower is None:
            return norms
        ones = norms.new_ones(2 * self.y.shape[-1]).expand(*norms.shape[:-1], -1)
        return torch.cat([norms, ones], -1)

    def _touches(self, slack: Tensor) -> Tensor | bool:
        """Where a bound is reached, beside its own variable, whatever the size of the others."""
        if self.lower is None:
            return True
        y = self.y.abs()
        bounds = -self.constraints()[:, self.rows.shape[-1] :]
        own = bounds <= torch.cat([y, y], -1) * (ROUNDING * torch.finfo(y.dtype).eps)
        stated = own.new_ones(len(own), slack.shape[-1] - own.shape[-1])
        return torch.cat([stated, own], -1)

    def polished(self) -> tuple[QuadraticPoint, ActiveSetSystem, Tensor]:
        """The solution on the active set that multipliers and slacks tell: exact to rounding.

        Returns:
            The point, the system that was solved, and its active set ``(batch, q)``.
        """
        data, p = self.data, self.data.num_equalities
        pulled = times(data.rows.mT, self.rows)
        gradient = self.gradient
        force = nonzero(torch.stack([gradient, pulled]).abs().amax((0, -1))).unsqueeze(-1)
        sizes = self.sizes(nonzero(largest(self.y)).unsqueeze(-1))
        slack = -self.constraints() / sizes
        r = data.rows.shape[-2]
        held = self.rows[:, p:] * (data.row_norms[..., p:] / force) > slack[:, p:r]
        kept = torch.cat([held.new_ones(len(held), p), held], -1)
        y, free, sides = self.y, None, []
        if self.lower is not None and self.upper is not None:
            lower, upper = data.bounds
            near = slack[:, r:].split(y.shape[-1], -1)
            below, above = self.lower / force > near[0], self.upper / force > near[1]
            same = (lower == upper).expand_as(below)
            y = torch.where(below | same, lower, torch.where(above, upper, y))
            free, sides = ~(below | above | same), [below | same, above | same]
        system = ActiveSetSystem.of(data, kept, free)
        rows = self.rows.masked_fill(~kept, 0)
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
    """The starting point of problems that state none, ``(1, n)``; not to be written to."""
    return _start(like.shape[-1], like.dtype, like.device)


@lru_cache(maxsize=64)
def _start(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        start: Tensor = generic_vector(torch.empty(n, dtype=dtype, device=device)) / n**0.5
        return start.unsqueeze(0)
