"""A quadratic program in units of its own data, for solvers whose tolerances are absolute.

With y = σ ŷ, f = φ f̂ and rows of unit length, where

    σ = max(how far constraints are violated at y = 0, min(‖q‖/‖Q‖, median of how far they hold there)),
    φ = max(‖Q‖ σ², ‖q‖ σ),

the solution and what determines it have size about 1. (Not the largest right side: that may be of a bound
which stands for none.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.optimality import largest
from ddn.quadratic.data import QuadraticData, nonzero

__all__ = ["ScaledProgram"]

# Sizes between the reciprocal and this are left as they are.
_HANDY = 100.0


@dataclass(frozen=True)
class ScaledProgram:
    """Scaled data, and the way back.

    Attributes:
        data: of the scaled program, one batch dimension or none.
        length: σ, ``(batch,)``.
        objective: φ, ``(batch,)``.
        norms: lengths of the rows of A and G, ``(batch, p + k)`` or shared.
        finite: where there is no NaN, and infinity only where that is no constraint, ``(batch,)``.
        size: number of problems.
    """

    data: QuadraticData
    length: Tensor
    objective: Tensor
    norms: Tensor
    finite: Tensor
    size: int

    @classmethod
    def of(cls, data: QuadraticData, size: int, only_if_needed: bool = False) -> ScaledProgram:
        """Scale; if only needed, then not where everything is of a handy size already."""
        if only_if_needed and _is_handy(data):
            ones = data.q.new_ones(size)
            plain = ones.to(torch.bool)
            return cls(data, ones, ones, data.q.new_ones(data.rows.shape[-2]), plain, size)
        finite = _usable(data).expand(size)
        norms = nonzero(data.row_norms)
        right = data.right / norms
        hessian, linear = data.curvature, largest(data.q)
        length = nonzero(_length(data, right, linear / nonzero(hessian), hessian > 0).expand(size))
        objective = nonzero(torch.maximum(hessian * length.square(), linear * length))
        if not bool(finite.all()):
            length, objective = length.nan_to_num(1, 1, 1), objective.nan_to_num(1, 1, 1)
        column = length.unsqueeze(-1)
        p = data.num_equalities
        scaled_rows, scaled_right = data.rows / norms.unsqueeze(-1), right / column
        scaled = QuadraticData(
            data.symmetric * (length.square() / objective)[:, None, None],
            data.q * (length / objective).unsqueeze(-1),
            scaled_rows[..., :p, :],
            scaled_right[..., :p],
            scaled_rows[..., p:, :],
            scaled_right[..., p:],
        )
        if data.has_bounds:
            lower, upper = (bound / column for bound in data.bounds)
            scaled = replace(scaled, lower=lower, upper=upper)
        # The rows are at hand as one matrix.
        scaled.__dict__.update(symmetric=scaled.Q, rows=scaled_rows, right=scaled_right)
        return cls(scaled, length, objective, norms, finite, size)

    def sides(self) -> tuple[Tensor, Tensor]:
        """Lower and upper sides of l ≤ y ≤ u (if there are bounds), then of the rows, ``(batch, ...)``."""
        data, p = self.data, self.data.num_equalities
        upper = data.right.expand(self.size, -1)
        lower = torch.cat([upper[:, :p], torch.full_like(upper[:, p:], -torch.inf)], -1)
        if not data.has_bounds:
            return lower, upper
        bounds = [bound.expand(self.size, -1) for bound in data.bounds]
        return torch.cat([bounds[0], lower], -1), torch.cat([bounds[1], upper], -1)

    def two_sided(self, multipliers: Tensor) -> Tensor:
        """From μ of the original program to one multiplier for each pair of sides."""
        scale = (self.length / self.objective).unsqueeze(-1)
        r = self.data.rows.shape[-2]
        rows = multipliers[:, :r] * self.norms * scale
        if not self.data.has_bounds:
            return rows
        lower, upper = multipliers[:, r:].unflatten(-1, (2, -1)).unbind(-2)
        return torch.cat([(upper - lower) * scale, rows], -1)

    def one_sided(self, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        """y and μ of the original program, from ŷ and one multiplier for each row and each bound."""
        scale = (self.objective / self.length).unsqueeze(-1)
        r = self.data.rows.shape[-2]
        rows = multipliers[:, :r] * scale / self.norms
        return y * self.length.unsqueeze(-1), torch.cat([rows, multipliers[:, r:] * scale], -1)

    def restored(self, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        """y and μ of the original program, from ŷ and one multiplier for each pair of sides."""
        scale = (self.objective / self.length).unsqueeze(-1)
        n, r = y.shape[-1], self.data.rows.shape[-2]
        rows = multipliers[:, multipliers.shape[-1] - r :] * scale / self.norms
        y = y * self.length.unsqueeze(-1)
        if not self.data.has_bounds:
            return y, rows
        sides = multipliers[:, :n] * scale
        return y, torch.cat([rows, (-sides).clamp_min(0), sides.clamp_min(0)], -1)


def _is_handy(data: QuadraticData) -> bool:
    """Whether no number that matters is far from 1, in any problem; false with NaN, or infinity in a row."""
    sizes, distances = [data.curvature], [largest(data.q)]
    if data.rows.shape[-2]:
        sizes.append(data.row_norms)
        distances.append(largest(data.right))
    if data.has_bounds:
        # What is infinite is no bound.
        sides = (side.masked_fill(side.abs() == torch.inf, 0) for side in data.bounds)
        distances += [largest(side) for side in sides]
    own = [tuple(map(float, size.aminmax())) for size in sizes]
    far = [tuple(map(float, distance.aminmax())) for distance in distances]
    # Q and the rows have their size; q, right sides and bounds tell how far away the solution is.
    return (
        all(low >= 1 / _HANDY and high <= _HANDY for low, high in own)
        and all(high <= _HANDY for _, high in far)
        and max(low for low, _ in far) >= 1 / _HANDY
    )


def _length(data: QuadraticData, right: Tensor, newton: Tensor, curved: Tensor) -> Tensor:
    """σ, from right sides of rows of unit length and from ‖q‖/‖Q‖, where Q is not zero."""
    p = data.num_equalities
    distance = [-right[..., p:]]
    if data.has_bounds:
        distance += [data.bounds[0], -data.bounds[1]]
    batch = torch.broadcast_shapes(newton.shape, *(part.shape[:-1] for part in distance))
    violation = torch.cat([part.expand(*batch, part.shape[-1]) for part in distance], -1)
    needed = torch.maximum(largest(right[..., :p]), largest(violation.clamp_min(0)))
    if not bool(curved.all()):
        loose = (violation < 0) & violation.isfinite()
        room = violation.neg().masked_fill(~loose, torch.nan)
        room = (
            room.nanmedian(-1).values.nan_to_num(0) if room.shape[-1] else torch.zeros_like(newton)
        )
        newton = torch.where(curved, newton, room)
    return torch.maximum(needed, newton)


def _usable(data: QuadraticData) -> Tensor:
    """Where there is no NaN, and infinity only in h, l and u, ``(batch,)`` or shared."""
    total = data.symmetric.sum((-2, -1)) + data.q.sum(-1)
    for matrix, vector in ((data.A, data.b), (data.G, None)):
        if matrix is not None:
            total = total + matrix.sum((-2, -1))
        if vector is not None:
            total = total + vector.sum(-1)
    result = total.isfinite()
    for value in (data.h, data.lower, data.upper):
        if value is not None:
            result = result & ~value.isnan().any(-1)
    return result
