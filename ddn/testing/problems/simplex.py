"""Problems on the simplex and its relatives: one equality constraint and bounds."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

import torch
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.formulas import bisect, simplex_threshold
from ddn.testing.problems.known import KnownProblem

__all__ = [
    "PROBLEMS",
    "CappedSimplexProjection",
    "RowProjection",
    "SimplexProjection",
    "WaterFilling",
]


class SimplexProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   Σ y_i = r,  y ≥ 0:  y = max(x − τ, 0).

    Source: Held, Wolfe and Crowder (1974); sparsemax of Martins and Astudillo (2016).
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def equality(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return (y.sum() - r).unsqueeze(0)

    def bounds(self, x: Tensor, r: Tensor) -> tuple[Tensor, None]:
        return x.new_zeros(()), None


def _simplex_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    support = draw.some(n)
    # x − τ: entries of y where positive, minus their multipliers where negative.
    shifted = torch.where(support, draw.uniform(0.2, 1.0, n), -draw.uniform(0.2, 1.0, n))
    x = shifted + draw.normal().unsqueeze(-1)
    return draw.scaled(x), draw.scaled(shifted.relu().sum(-1))


def _project_simplex(x: Tensor, r: Tensor) -> Tensor:
    return (x - simplex_threshold(x, r).unsqueeze(-1)).relu()


def _simplex_multipliers(x: Tensor, r: Tensor) -> dict[str, Tensor]:
    # y_i − x_i + λ − ν_i = 0
    threshold = simplex_threshold(x, r).unsqueeze(-1)
    return {"equality_multipliers": threshold, "lower_multipliers": (threshold - x).relu()}


class CappedSimplexProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   Σ y_i = r,  0 ≤ y ≤ c:  y = min(max(x − τ, 0), c).

    Both kinds of bounds, and a cap that is an input.

    Source: Wang and Lu (2015); with r = k and c = 1 the soft top-k of Amos, Koltun and Kolter (2019).
    """

    signature = "(n),(),()->(n)"

    def objective(self, x: Tensor, r: Tensor, cap: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def equality(self, x: Tensor, r: Tensor, cap: Tensor, y: Tensor) -> Tensor:
        return (y.sum() - r).unsqueeze(0)

    def bounds(self, x: Tensor, r: Tensor, cap: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_zeros(()), cap


def _capped_simplex_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    cap = draw.uniform(0.5, 2.0)
    # (x − τ) / c: between the bounds, below or above. One entry at least is free.
    outside = torch.where(draw.choice(n), draw.uniform(-1.0, -0.2, n), draw.uniform(1.2, 2.0, n))
    shifted = torch.where(draw.some(n), draw.uniform(0.2, 0.8, n), outside) * cap.unsqueeze(-1)
    r = shifted.clamp_min(0).minimum(cap.unsqueeze(-1)).sum(-1)
    return (draw.scaled(shifted + draw.normal().unsqueeze(-1)), draw.scaled(r), draw.scaled(cap))


def _capped_threshold(x: Tensor, r: Tensor, cap: Tensor) -> Tensor:
    """τ, from the equation Σ y = r over the entries that are free."""
    caps = cap.unsqueeze(-1)

    def excess(minus_threshold: Tensor) -> Tensor:
        return (x + minus_threshold.unsqueeze(-1)).clamp_min(0).minimum(caps).sum(-1) - r

    root = -bisect(excess, -x.amax(-1), cap - x.amin(-1)).unsqueeze(-1)
    capped = (x - root) >= caps
    free = (x > root) & ~capped
    known = torch.where(free, x, torch.where(capped, caps, 0)).sum(-1)
    threshold: Tensor = (known - r) / free.sum(-1)
    return threshold.unsqueeze(-1)


def _project_capped_simplex(x: Tensor, r: Tensor, cap: Tensor) -> Tensor:
    shifted, cap = x - _capped_threshold(x, r, cap), cap.unsqueeze(-1)
    return torch.where(shifted > cap, cap, shifted.relu())


def _capped_simplex_multipliers(x: Tensor, r: Tensor, cap: Tensor) -> dict[str, Tensor]:
    threshold = _capped_threshold(x, r, cap)
    return {
        "equality_multipliers": threshold,
        "lower_multipliers": (threshold - x).relu(),
        "upper_multipliers": (x - threshold - cap.unsqueeze(-1)).relu(),
    }


class WaterFilling(DeclarativeNode):
    """argmin_y  −Σ log(a_i + y_i)   subject to   Σ y_i = P,  y ≥ 0:  y = max(w − a, 0),  the water level w.

    Source: Boyd and Vandenberghe (2004), example 5.2.
    """

    signature = "(n),()->(n)"

    def objective(self, a: Tensor, power: Tensor, y: Tensor) -> Tensor:
        return -(a + y).log().sum()

    def equality(self, a: Tensor, power: Tensor, y: Tensor) -> Tensor:
        return (y.sum() - power).unsqueeze(0)

    def bounds(self, a: Tensor, power: Tensor) -> tuple[Tensor, None]:
        return a.new_zeros(()), None


def _water_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    level = draw.uniform(0.5, 1.0, 1)
    below = level * draw.uniform(0.2, 0.8, n)
    a = torch.where(draw.some(n), below, level * draw.uniform(1.2, 2.0, n))
    return draw.scaled(a), draw.scaled((level - a).relu().sum(-1))


def _fill_water(a: Tensor, power: Tensor) -> Tensor:
    return (-simplex_threshold(-a, power).unsqueeze(-1) - a).relu()


def _water_multipliers(a: Tensor, power: Tensor) -> dict[str, Tensor]:
    # −1 / (a_i + y_i) + λ − ν_i = 0
    level = -simplex_threshold(-a, power).unsqueeze(-1)
    return {"equality_multipliers": 1 / level, "lower_multipliers": (1 / level - 1 / a).relu()}


class RowProjection(DeclarativeNode):
    """argmin_Y  ½ ‖Y − X‖²   subject to   Y 1 = r,  Y ≥ 0,  a matrix:  row by row a simplex projection."""

    signature = "(m,n),(m)->(m,n)"

    def objective(self, X: Tensor, r: Tensor, Y: Tensor) -> Tensor:
        return 0.5 * (Y - X).square().sum()

    def equality(self, X: Tensor, r: Tensor, Y: Tensor) -> Tensor:
        return Y.sum(-1) - r

    def bounds(self, X: Tensor, r: Tensor) -> tuple[Tensor, None]:
        return X.new_zeros(()), None


def _row_inputs(draw: Draw) -> tuple[Tensor, ...]:
    rows = [_simplex_inputs(draw) for _ in range(2)]
    return torch.stack([x for x, _ in rows], -2), torch.stack([r for _, r in rows], -1)


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "simplex_projection",
        SimplexProjection,
        _simplex_inputs,
        _project_simplex,
        multipliers=_simplex_multipliers,
    ),
    KnownProblem(
        "capped_simplex_projection",
        CappedSimplexProjection,
        _capped_simplex_inputs,
        _project_capped_simplex,
        multipliers=_capped_simplex_multipliers,
    ),
    KnownProblem(
        "water_filling",
        WaterFilling,
        _water_inputs,
        _fill_water,
        multipliers=_water_multipliers,
    ),
    KnownProblem("row_projection", RowProjection, _row_inputs, _project_simplex),
)
"""The problems of this module."""
