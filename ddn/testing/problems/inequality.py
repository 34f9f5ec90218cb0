"""Problems with one smooth inequality, active or not."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

import torch
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.formulas import norm
from ddn.testing.problems.known import KnownProblem

__all__ = [
    "PROBLEMS",
    "BallProjection",
    "GeometricMeanConstraint",
    "HalfspaceProjection",
    "LinearOverBall",
    "Maximum",
]


class HalfspaceProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   aᵀy ≤ b:  y = x − a max(aᵀx − b, 0) / ‖a‖²."""

    signature = "(n),(n),()->(n)"

    def objective(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def inequality(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return (a @ y - b).unsqueeze(0)


def _halfspace_inputs(draw: Draw) -> tuple[Tensor, ...]:
    x, a = draw.normal(draw.size), draw.direction(draw.size) * draw.uniform(0.5, 2.0, 1)
    b = (a * x).sum(-1) + draw.away_from_zero()
    return draw.scaled(x), a, draw.scaled(b)


def _halfspace_multiplier(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    excess = ((a * x).sum(-1) - b).relu() / a.square().sum(-1)
    return excess.unsqueeze(-1)


class BallProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   ‖y‖² ≤ r²:  y = x min(1, r / ‖x‖)."""

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def inequality(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return (y.square().sum() - r.square()).unsqueeze(0)


def _ball_inputs(draw: Draw) -> tuple[Tensor, ...]:
    r = draw.uniform(0.5, 2.0)
    ratio = torch.where(draw.choice(), draw.uniform(0.2, 0.8), draw.uniform(1.2, 3.0))
    x = draw.direction(draw.size) * (ratio * r).unsqueeze(-1)
    return draw.scaled(x), draw.scaled(r)


def _project_ball(x: Tensor, r: Tensor) -> Tensor:
    ratio = r.unsqueeze(-1) / norm(x)
    return torch.where(ratio < 1, ratio * x, x)


def _ball_multipliers(x: Tensor, r: Tensor) -> dict[str, Tensor]:
    # y − x + 2 ν y = 0
    return {"inequality_multipliers": (norm(x) / r.unsqueeze(-1) - 1).relu() / 2}


class LinearOverBall(DeclarativeNode):
    """argmin_y  cᵀy   subject to   ‖y‖² ≤ r²:  y = −r c / ‖c‖.

    The objective is linear: all curvature comes from the constraint.
    """

    signature = "(n),()->(n)"

    def objective(self, c: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return c @ y

    def inequality(self, c: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return (y.square().sum() - r.square()).unsqueeze(0)


def _linear_over_ball_inputs(draw: Draw) -> tuple[Tensor, ...]:
    c = draw.direction(draw.size) * draw.uniform(0.5, 2.0, 1)
    return c, draw.scaled(draw.uniform(0.5, 2.0))


def _linear_over_ball(c: Tensor, r: Tensor) -> Tensor:
    return -r.unsqueeze(-1) / norm(c) * c


def _linear_over_ball_multipliers(c: Tensor, r: Tensor) -> dict[str, Tensor]:
    # c + 2 ν y = 0
    return {"inequality_multipliers": norm(c) / (2 * r.unsqueeze(-1))}


class GeometricMeanConstraint(DeclarativeNode):
    """argmin_y  xᵀy   subject to   mean(log y_i) ≥ log g:  y_i = g exp(mean(log x_i)) / x_i.

    The cheapest basket of a given geometric mean, at prices x. The constraint is NaN outside y > 0.

    Source: the expenditure function of Cobb and Douglas (Varian 1992, ch. 7).
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, g: Tensor, y: Tensor) -> Tensor:
        return x @ y

    def inequality(self, x: Tensor, g: Tensor, y: Tensor) -> Tensor:
        return (g.log() - y.log().mean()).unsqueeze(0)

    def starting_point(self, x: Tensor, g: Tensor) -> Tensor:
        return (2 * g).expand_as(x)


def _geometric_mean_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return draw.uniform(0.5, 2.0, draw.size), draw.scaled(draw.uniform(0.5, 2.0))


def _cost(x: Tensor, g: Tensor) -> Tensor:
    """g times the geometric mean of the prices."""
    return (g * x.log().mean(-1).exp()).unsqueeze(-1)


class Maximum(DeclarativeNode):
    """argmin_y  y   subject to   x_i ≤ y,  a linear program with a number for a solution:  y = max x_i."""

    signature = "(n)->()"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return y

    def inequality(self, x: Tensor, y: Tensor) -> Tensor:
        return x - y


def _maximum_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    x = draw.normal(n)
    winner = torch.randint(n, (*draw.batch, 1), generator=draw.generator)
    above = x.amax(-1, keepdim=True) + draw.uniform(0.2, 1.0, 1)
    return (draw.scaled(x.scatter(-1, winner, above)),)


def _indicator_of_maximum(x: Tensor) -> dict[str, Tensor]:
    return {"inequality_multipliers": (x == x.amax(-1, keepdim=True)).to(x.dtype)}


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "halfspace_projection",
        HalfspaceProjection,
        _halfspace_inputs,
        lambda x, a, b: x - a * _halfspace_multiplier(x, a, b),
        multipliers=lambda *inputs: {"inequality_multipliers": _halfspace_multiplier(*inputs)},
        length=lambda x, a, b: x.abs().amax(-1),
    ),
    KnownProblem(
        "ball_projection",
        BallProjection,
        _ball_inputs,
        _project_ball,
        multipliers=_ball_multipliers,
    ),
    KnownProblem(
        "linear_over_ball",
        LinearOverBall,
        _linear_over_ball_inputs,
        _linear_over_ball,
        multipliers=_linear_over_ball_multipliers,
    ),
    KnownProblem(
        "geometric_mean_constraint",
        GeometricMeanConstraint,
        _geometric_mean_inputs,
        lambda x, g: _cost(x, g) / x,
        # x_i − ν / (n y_i) = 0
        multipliers=lambda x, g: {"inequality_multipliers": x.shape[-1] * _cost(x, g)},
    ),
    KnownProblem(
        "maximum",
        Maximum,
        _maximum_inputs,
        lambda x: x.amax(-1),
        multipliers=_indicator_of_maximum,
        length=lambda x: x.abs().amax(-1),
    ),
)
"""The problems of this module."""
