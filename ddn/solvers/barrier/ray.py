"""Is the objective unbounded along a ray that the iterates follow?"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.optimality import largest
from ddn.solvers.barrier.iterate import Direction, Iterate
from ddn.solvers.barrier.program import Program

__all__ = ["runs_away"]


def runs_away(
    far: Tensor, program: Program, point: Iterate, hessian: Tensor, predictor: Direction
) -> Tensor:
    """Where y is far away, on a ray along which the objective falls for ever.

    That is: a step d with ∇fᵀd < 0, A d = 0 and G d ≤ 0, along which curvature would not stop the fall
    before y is a thousand times as large, and f is as low as expected where it is twice as large.
    """
    if not bool(far.any()):
        return far
    rays = [
        _is_ray(program, point, hessian, ray / _positive(largest(ray)).unsqueeze(-1))
        for ray in (predictor.y, point.y)
    ]
    return far & (rays[0] | rays[1])


def _is_ray(program: Program, point: Iterate, hessian: Tensor, d: Tensor) -> Tensor:
    small = torch.finfo(d.dtype).eps ** (3 / 8)
    first, size = point.first, largest(point.y)
    slope = (first.gradient * d).sum(-1)
    curvature = ((hessian @ d.unsqueeze(-1)).squeeze(-1) * d).sum(-1) * size
    along = (first.equality @ d.unsqueeze(-1)).squeeze(-1).abs()
    along = largest(along / _positive(first.equality_norms))
    across = torch.where(program.exists, first.inequality.times(d), 0)
    across = largest((across / _positive(first.inequality.row_norms())).clamp_min(0))
    falls = (slope < -small * largest(first.gradient)) & (curvature <= -1e-3 * slope)
    values = program.values(point.y + size.unsqueeze(-1) * d)
    fallen = values.objective <= point.values.objective + 0.5 * size * slope
    result: Tensor = falls & fallen & (along <= small) & (across <= small)
    return result


def _positive(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, 1)
