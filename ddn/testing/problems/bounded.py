"""Problems with bounds on single variables."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.known import KnownProblem

__all__ = [
    "PROBLEMS",
    "BoxProjection",
    "ConcaveOverBox",
    "FlooredLogarithm",
    "LearnedFloor",
    "NonnegativeProjection",
    "SoftThreshold",
]


class NonnegativeProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   y ≥ 0:  y = max(x, 0)."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def bounds(self, x: Tensor) -> tuple[Tensor, None]:
        return x.new_zeros(()), None


def _largest(x: Tensor, *_: Tensor) -> Tensor:
    return x.abs().amax(-1)


class BoxProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   l ≤ y ≤ u,  with bounds that are inputs:  y = min(max(x, l), u)."""

    signature = "(n),(n),(n)->(n)"

    def objective(self, x: Tensor, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def bounds(self, x: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return lower, upper


def _box_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    lower, width = draw.normal(n), draw.uniform(0.5, 2.0, n)
    # Below, inside or above, at least a fifth of the width away from either bound.
    position = torch.stack(
        [draw.uniform(-1.0, -0.2, n), draw.uniform(0.2, 0.8, n), draw.uniform(1.2, 2.0, n)]
    )
    case = (3 * draw.uniform(0, 1, n)).long().unsqueeze(0)
    x = lower + width * position.gather(0, case).squeeze(0)
    return draw.scaled(x), draw.scaled(lower), draw.scaled(lower + width)


def _box(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return torch.where(x < lower, lower, torch.where(x > upper, upper, x))


def _box_multipliers(x: Tensor, lower: Tensor, upper: Tensor) -> dict[str, Tensor]:
    return {
        "lower_multipliers": (lower - x).clamp_min(0),
        "upper_multipliers": (x - upper).clamp_min(0),
    }


class FlooredLogarithm(DeclarativeNode):
    """argmin_y  Σ (exp(y_i) − x_i y_i)   subject to   y_i ≥ l for every other i.

    y_i = max(log x_i, l) where there is a bound, and log x_i where it is infinite.
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, floor: Tensor, y: Tensor) -> Tensor:
        return y.exp().sum() - x @ y

    def bounds(self, x: Tensor, floor: Tensor) -> tuple[Tensor, None]:
        return torch.where(_every_other(x), floor, -torch.inf), None

    def starting_point(self, x: Tensor, floor: Tensor) -> Tensor:
        return (floor + 1).expand_as(x)


def _every_other(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-1], device=x.device) % 2 == 0


def _floored_logarithm_inputs(draw: Draw) -> tuple[Tensor, ...]:
    floor = draw.scaled(draw.uniform(0.5, 2.0)).log()
    return (floor.unsqueeze(-1) + draw.away_from_zero(draw.size)).exp(), floor


def _floored_logarithm(x: Tensor, floor: Tensor) -> Tensor:
    floor = floor.unsqueeze(-1)
    return torch.where(_every_other(x) & (x < floor.exp()), floor, x.log())


def _floored_logarithm_multipliers(x: Tensor, floor: Tensor) -> dict[str, Tensor]:
    value = (floor.unsqueeze(-1).exp() - x).clamp_min(0)
    return {"lower_multipliers": torch.where(_every_other(x), value, 0)}


class SoftThreshold(DeclarativeNode):
    """argmin_(u,v)  ½ ‖u − v − x‖² + t Σ (u_i + v_i)   subject to   u ≥ 0,  v ≥ 0.

    The proximal operator of the 1-norm in split variables, u = max(x − t, 0) and v = max(−x − t, 0). The
    Hessian is singular, but not where the bounds leave freedom.

    Source: Donoho (1995); the splitting of Chen, Donoho and Saunders (1998).
    """

    signature = "(n),()->(n),(n)"

    def objective(self, x: Tensor, t: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return 0.5 * (u - v - x).square().sum() + t * (u + v).sum()

    def bounds(self, x: Tensor, t: Tensor) -> tuple[tuple[Tensor, Tensor], None]:
        zero = x.new_zeros(())
        return (zero, zero), None


def _soft_threshold_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    t = draw.uniform(0.5, 2.0)
    inside = draw.uniform(-0.8, 0.8, n) * t.unsqueeze(-1)
    outside = draw.away_from_zero(n)
    outside = outside + outside.sign() * t.unsqueeze(-1)
    return draw.scaled(torch.where(draw.choice(n), inside, outside)), draw.scaled(t)


def _soft_threshold(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    t = t.unsqueeze(-1)
    return (x - t).relu(), (-x - t).relu()


def _soft_threshold_multipliers(x: Tensor, t: Tensor) -> dict[str, Any]:
    u, v = _soft_threshold(x, t)
    residual = u - v - x
    return {"lower_multipliers": (t.unsqueeze(-1) + residual, t.unsqueeze(-1) - residual)}


class LearnedFloor(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   y ≥ r c  with a parameter c:  y = max(x, r c)."""

    signature = "(n),()->(n)"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.floor = nn.Parameter(torch.tensor(0.25))

    def objective(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def bounds(self, x: Tensor, r: Tensor) -> tuple[Tensor, None]:
        return r * self.floor, None


def _learned_floor_inputs(draw: Draw) -> tuple[Tensor, ...]:
    r = draw.uniform(0.5, 2.0)
    x = 0.25 * r.unsqueeze(-1) + draw.away_from_zero(draw.size)
    return draw.scaled(x), draw.scaled(r)


def _learned_floor(x: Tensor, r: Tensor, floor: Tensor) -> Tensor:
    bound = (r * floor).unsqueeze(-1)
    return torch.where(x > bound, x, bound)


class ConcaveOverBox(DeclarativeNode):
    """argmin_y  xᵀy − ½ ‖y‖²   subject to   −r ≤ y ≤ r,  with |x_i| < r:  y = −r sign(x).

    The Hessian is negative definite: every corner is a strict local minimum. ``solve`` knows the best one;
    multipliers come from least squares.
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return x @ y - 0.5 * y.square().sum()

    def bounds(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        return -r, r

    def solve(self, x: Tensor, r: Tensor) -> Tensor:
        return _best_corner(x, r)


def _best_corner(x: Tensor, r: Tensor) -> Tensor:
    return -r.unsqueeze(-1) * x.sign()


def _concave_inputs(draw: Draw) -> tuple[Tensor, ...]:
    r = draw.uniform(0.5, 2.0)
    fraction = draw.away_from_zero(draw.size) * 0.4
    return draw.scaled(fraction * r.unsqueeze(-1)), draw.scaled(r)


def _concave_multipliers(x: Tensor, r: Tensor) -> dict[str, Tensor]:
    # x − y − ν_l + ν_u = 0
    r = r.unsqueeze(-1)
    return {
        "lower_multipliers": torch.where(x > 0, x + r, 0),
        "upper_multipliers": torch.where(x < 0, r - x, 0),
    }


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "nonnegative_projection",
        NonnegativeProjection,
        lambda draw: (draw.scaled(draw.away_from_zero(draw.size)),),
        torch.relu,
        multipliers=lambda x: {"lower_multipliers": (-x).relu()},
        length=_largest,
    ),
    KnownProblem(
        "box_projection",
        BoxProjection,
        _box_inputs,
        _box,
        multipliers=_box_multipliers,
        length=lambda x, lower, upper: torch.stack([lower, upper]).abs().amax((0, -1)),
    ),
    KnownProblem(
        "floored_logarithm",
        FlooredLogarithm,
        _floored_logarithm_inputs,
        _floored_logarithm,
        multipliers=_floored_logarithm_multipliers,
        length=lambda x, floor: floor.abs() + 1,
    ),
    KnownProblem(
        "soft_threshold",
        SoftThreshold,
        _soft_threshold_inputs,
        _soft_threshold,
        multipliers=_soft_threshold_multipliers,
        length=lambda x, t: torch.maximum(_largest(x), t),
    ),
    KnownProblem(
        "learned_floor",
        LearnedFloor,
        _learned_floor_inputs,
        _learned_floor,
        length=_largest,
    ),
    KnownProblem(
        "concave_over_box",
        ConcaveOverBox,
        _concave_inputs,
        _best_corner,
        multipliers=_concave_multipliers,
    ),
)
"""The problems of this module."""
