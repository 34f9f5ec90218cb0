"""Where the interior-point method starts: inside the bounds, with positive slacks and multipliers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.multipliers import least_squares_multipliers
from ddn.optimality import largest
from ddn.solvers.barrier.batched import Batched
from ddn.solvers.barrier.iterate import Iterate, Sizes
from ddn.solvers.barrier.program import Program, fixed_variables

__all__ = ["Start", "first_iterate", "in_units_of_the_data", "inside_bounds"]

# Fractions of the distance between two bounds, and of the size of y, that the start keeps away from them
# (Wächter and Biegler 2006, section 3.6, has 0.01 for both).
_INSIDE, _MARGIN = 1e-2, 1e-2
# Slacks are at least this fraction of the length of y, and ν_i s_i this fraction of force times length.
_SLACK, _COMPLEMENTARITY = 0.1, 0.1


def inside_bounds(y: Tensor, bounds: Tensor) -> Tensor:
    """The nearest point that keeps away from its bounds ``(batch, 2, m)``; at them where they agree."""
    lower, upper = bounds.unbind(-2)
    finite = torch.where(bounds.isfinite(), bounds.abs(), 0).amax(-2)
    size = torch.maximum(finite, y.abs())
    size = torch.where(size > 0, size, largest(y).unsqueeze(-1))
    size = torch.where(size > 0, size, 1)
    margin = torch.minimum(_MARGIN * size, _INSIDE * (upper - lower))
    inside = torch.minimum(torch.maximum(y, lower + margin), upper - margin)
    return torch.where(fixed_variables(bounds), lower, inside)


def in_units_of_the_data(program: Program, y: Tensor) -> Tensor:
    """The generic point y ``(batch, m)``, stretched to the length that the data of the problem suggest.

    At y = 0, that is how far constraints are from being satisfied, or how far a Newton step goes, but not
    further than satisfied constraints let it. Problems with nothing to be read there keep their point.
    """
    zero = torch.zeros_like(y)
    values, first = program.evaluate(zero)
    nothing = torch.zeros_like(values.equality), torch.zeros_like(values.inequality)
    hessian = program.hessian(zero, *nothing)
    readable = values.is_finite() & first.is_finite() & hessian.isfinite().flatten(1).all(-1)
    curvature = hessian.abs().sum(-1).amax(-1)
    newton = largest(first.gradient) / torch.where(curvature > 0, curvature, 1)
    newton = torch.where(curvature > 0, newton, torch.inf)
    distance = _distance(values.inequality, first.inequality.row_norms())
    distance = torch.where(program.exists, distance, 0)
    room = torch.full_like(newton, torch.inf)
    if distance.shape[-1]:
        room = torch.where(distance < 0, -distance, torch.nan).nanmedian(-1).values
        room = room.nan_to_num(torch.inf)
    needed = _distance(values.equality, first.equality_norms).abs()
    length = torch.maximum(largest(needed), largest(distance.clamp_min(0)))
    within = torch.minimum(newton, room)
    length = torch.maximum(length, torch.where(within.isfinite(), within, 0))
    stretched = y * torch.where(readable & (length > 0), length, 1).unsqueeze(-1)
    # Only where the objective is still like its model at zero: exponentials are not, far away.
    values, moved = program.evaluate(stretched)
    model = first.gradient + (hessian @ stretched.unsqueeze(-1)).squeeze(-1)
    size = torch.maximum(largest(first.gradient), largest(model))
    similar = largest(moved.gradient - model) <= size
    similar = similar & readable & values.is_finite() & moved.is_finite()
    return torch.where(similar.unsqueeze(-1), stretched, y)


@dataclass(frozen=True)
class Start(Batched):
    """Where the iterations start.

    Attributes:
        point: the first iterate.
        extent: length that the data of the problem suggest, positive, ``(batch,)``.
        floor: force below which nothing counts, ``(batch,)``.
        finite: where everything is finite, ``(batch,)``.
    """

    point: Iterate
    extent: Tensor
    floor: Tensor
    finite: Tensor


def first_iterate(program: Program, y: Tensor, barrier: float) -> Start:
    """The first iterate at y ``(batch, m)``, on the way to the central path with κ = ``barrier``."""
    exists = program.exists
    values, first = program.evaluate(y)
    finite = values.is_finite() & first.is_finite()
    nothing = torch.zeros_like(values.inequality)
    point = Iterate(y, nothing + 1, torch.zeros_like(values.equality), nothing, values, first)
    hessian = program.hessian(y, point.equality, nothing)
    extent = _extent(point, hessian, exists)
    floor = torch.finfo(y.dtype).eps ** 0.5 * largest(first.gradient)
    sizes = Sizes.at(point, hessian, extent, floor)
    g = values.inequality
    least = torch.where(g < 0, _INSIDE, _SLACK).to(g) * sizes.rows * sizes.length.unsqueeze(-1)
    slack = torch.maximum(g.abs(), least)
    # Bounds are never left once y is inside: the objective may be undefined there.
    r = first.inequality.stated.shape[-2]
    slack = torch.cat([slack[:, :r], torch.where(g < 0, -g, slack)[:, r:]], -1)
    slack = torch.where(exists & (slack > 0), slack, 1)
    product = (_COMPLEMENTARITY * sizes.work).clamp_min(barrier)
    multiplier = torch.where(exists, product.unsqueeze(-1) / slack, 0)
    # Curvature of constraints counts from the start.
    equality = least_squares_multipliers(
        first.gradient + first.inequality.transposed_times(multiplier), first.equality
    )
    point = replace(point, slack=slack, equality=equality, inequality=multiplier)
    return Start(point, extent, floor, finite & hessian.isfinite().flatten(1).all(-1))


def _distance(value: Tensor, norm: Tensor) -> Tensor:
    return torch.where(norm > 0, value / torch.where(norm > 0, norm, 1), 0)


def _extent(point: Iterate, hessian: Tensor, exists: Tensor) -> Tensor:
    """How far the solution may be expected: |y|, a Newton step, or the way to the constraints."""
    first, values = point.first, point.values
    curvature = (
        hessian.abs().sum(-1).amax(-1) if point.y.shape[-1] else torch.zeros_like(values.objective)
    )
    newton = torch.where(curvature > 0, largest(first.gradient) / curvature, 0)
    violated = torch.where(exists, values.inequality.clamp_min(0), 0)
    way = [
        largest(_distance(values.equality, first.equality_norms)),
        largest(_distance(violated, first.inequality.row_norms())),
    ]
    extent = torch.stack([largest(point.y), newton, *way]).amax(0)
    return torch.where(extent > 0, extent, 1)
