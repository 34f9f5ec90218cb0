"""Problems that break one hypothesis of the implicit function theorem at their answer.

Where the answer is unique all the same, it is given, and so is its derivative if it has one.
"""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

import torch
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing.problems.bounded import NonnegativeProjection
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.formulas import norm, solve_square, times
from ddn.testing.problems.inequality import BallProjection, HalfspaceProjection, Maximum
from ddn.testing.problems.known import KnownProblem
from ddn.testing.problems.polyhedral import LinearProgram
from ddn.testing.problems.smooth import Quadratic
from ddn.testing.problems.sphere import Eigenvector, SphereProjection

__all__ = [
    "PROBLEMS",
    "AbsoluteDeviation",
    "FarthestPoint",
    "FlatValley",
    "RepeatedEquality",
    "RepeatedInequality",
    "Saddle",
    "SquaredConstraint",
]


def _kink_inputs(draw: Draw) -> tuple[Tensor, ...]:
    x = draw.away_from_zero(draw.size + 1)
    at_kink = torch.cat([draw.some(draw.size), torch.zeros_like(x[..., :1], dtype=torch.bool)], -1)
    return (draw.scaled(torch.where(at_kink, 0, x)),)


def _ball_surface_inputs(draw: Draw) -> tuple[Tensor, ...]:
    r = draw.uniform(0.5, 2.0)
    return draw.scaled(draw.direction(draw.size) * r.unsqueeze(-1)), draw.scaled(r)


def _ball_surface(x: Tensor, r: Tensor) -> Tensor:
    return r.unsqueeze(-1) / norm(x) * x


class RepeatedEquality(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   aᵀy = b  and again  2 aᵀy = 2 b.

    The multipliers are not unique; the answer and its derivative are.
    """

    signature = "(n),(n),()->(n)"

    def objective(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def equality(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        residual = a @ y - b
        return torch.stack([residual, 2 * residual])


class RepeatedInequality(HalfspaceProjection):
    """argmin_y  ½ ‖y − x‖²   subject to   aᵀy ≤ b  and again  2 aᵀy ≤ 2 b,  both active."""

    def inequality(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        residual = a @ y - b
        return torch.stack([residual, 2 * residual])


def _hyperplane_inputs(draw: Draw) -> tuple[Tensor, ...]:
    x, a = draw.normal(draw.size), draw.direction(draw.size) * draw.uniform(0.5, 2.0, 1)
    b = (a * x).sum(-1) - draw.uniform(0.2, 2.0)
    return draw.scaled(x), a, draw.scaled(b)


def _project_hyperplane(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    excess = ((a * x).sum(-1) - b) / a.square().sum(-1)
    return x - a * excess.unsqueeze(-1)


class SquaredConstraint(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   (y_1 − b)² = 0:  x with its first entry replaced.

    The gradient of the constraint vanishes wherever it holds: there are no multipliers.
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def equality(self, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return (y[:1] - b).square()

    def solve(self, x: Tensor, b: Tensor) -> Tensor:
        return _replace_first(x, b)


def _replace_first(x: Tensor, b: Tensor) -> Tensor:
    return torch.cat([b.unsqueeze(-1), x[..., 1:]], -1)


def _replacement_inputs(draw: Draw) -> tuple[Tensor, ...]:
    x = draw.normal(draw.size)
    return draw.scaled(x), draw.scaled(x[..., 0] + draw.away_from_zero())


def _overdetermined_vertex_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    y, weights = draw.normal(n), draw.uniform(0.2, 2.0, n + 1)
    square = draw.matrix(n, n)
    # One row more than a vertex needs, in the cone of the others.
    extra = (draw.uniform(0.2, 1.0, n).unsqueeze(-2) @ square).squeeze(-2).unsqueeze(-2)
    G = torch.cat([square, extra], -2)
    return -times(G.mT, weights), G, draw.scaled(times(G, y))


def _vertex(c: Tensor, G: Tensor, h: Tensor) -> Tensor:
    n = c.shape[-1]
    return solve_square(G[..., :n, :], h[..., :n])


def _edge_inputs(draw: Draw) -> tuple[Tensor, ...]:
    """A cost that is orthogonal to one edge of a simplex: all of the edge is optimal."""
    n = draw.size + 1
    rows = torch.cat([-torch.eye(n, dtype=torch.float64), torch.ones(1, n, dtype=torch.float64)])
    weights = draw.uniform(0.2, 2.0, n).scatter(-1, torch.zeros(*draw.batch, 1).long(), 0)
    h = torch.cat([torch.zeros(n, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
    return weights, rows.expand(*draw.batch, n + 1, n), draw.scaled(h.expand(*draw.batch, n + 1))


def _tie_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size + 1
    x = draw.normal(n)
    top = x.amax(-1, keepdim=True) + draw.uniform(0.2, 1.0, 1)
    first = torch.arange(n) < 2
    return (draw.scaled(torch.where(first, top, x)),)


class FlatValley(DeclarativeNode):
    """argmin_y  ½ (aᵀy − b)²,  a whole hyperplane of minimizers."""

    signature = "(n),()->(n)"

    def objective(self, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (a @ y - b).square()


class AbsoluteDeviation(DeclarativeNode):
    """argmin_y  Σ |y_i − x_i|:  y = x,  where the objective has a kink and no second derivative."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x).abs().sum()

    def solve(self, x: Tensor) -> Tensor:
        return x.clone()


class Saddle(DeclarativeNode):
    """argmin_y  ½ ‖y‖² − y_n² − xᵀy,  unbounded; ``solve`` returns its stationary point, a saddle."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y.square().sum() - y[-1].square() - x @ y

    def solve(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :-1], -x[..., -1:]], -1)


class FarthestPoint(SphereProjection):
    """argmin_y  ½ ‖y − x‖²   subject to   ‖y‖² = r²,  but ``solve`` returns the maximum, −r x / ‖x‖."""

    def solve(self, x: Tensor, r: Tensor) -> Tensor:
        return -_ball_surface(x, r)


def _sphere_inputs(draw: Draw) -> tuple[Tensor, ...]:
    x = draw.direction(draw.size + 1) * draw.uniform(0.5, 2.0, 1)
    return draw.scaled(x), draw.scaled(draw.uniform(0.5, 2.0))


def _repeated_eigenvalue_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size + 1
    basis = draw.orthonormal(n, n)
    eigenvalues = torch.where(torch.arange(n) < 2, 1.0, draw.uniform(2.0, 3.0, n))
    A = (basis * eigenvalues.unsqueeze(-2)) @ basis.mT
    return (draw.scaled((A + A.mT) / 2),)


def _ill_conditioned_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size + 1
    # Neither basis nor spectrum is aligned with the axes, so that no change of units helps.
    basis = draw.orthonormal(n, n)
    eigenvalues = 10 ** torch.linspace(0, -14, n, dtype=torch.float64)
    Q = (basis * eigenvalues) @ basis.mT
    return (Q + Q.mT) / 2, draw.scaled(draw.normal(n))


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "kink_of_nonnegative_projection",
        NonnegativeProjection,
        _kink_inputs,
        torch.relu,
        multipliers=lambda x: {"lower_multipliers": (-x).relu()},
        length=lambda x: x.abs().amax(-1),
        flags=("strictly_complementary",),
    ),
    KnownProblem(
        "surface_of_ball",
        BallProjection,
        _ball_surface_inputs,
        _ball_surface,
        flags=("strictly_complementary",),
    ),
    KnownProblem(
        "repeated_equality",
        RepeatedEquality,
        _hyperplane_inputs,
        _project_hyperplane,
        length=lambda x, a, b: x.abs().amax(-1),
        flags=("independent_constraints",),
    ),
    KnownProblem(
        "repeated_inequality",
        RepeatedInequality,
        _hyperplane_inputs,
        _project_hyperplane,
        length=lambda x, a, b: x.abs().amax(-1),
        flags=("independent_constraints",),
    ),
    KnownProblem(
        "squared_constraint",
        SquaredConstraint,
        _replacement_inputs,
        _replace_first,
        flags=("optimal", "independent_constraints"),
    ),
    KnownProblem(
        "overdetermined_vertex",
        LinearProgram,
        _overdetermined_vertex_inputs,
        _vertex,
        flags=("independent_constraints",),
        differentiable=False,
    ),
    KnownProblem("edge_of_simplex", LinearProgram, _edge_inputs, flags=("strict_minimum",)),
    KnownProblem(
        "tie_of_maximum",
        Maximum,
        _tie_inputs,
        lambda x: x.amax(-1),
        length=lambda x: x.abs().amax(-1),
        flags=("independent_constraints",),
        differentiable=False,
    ),
    KnownProblem(
        "flat_valley",
        FlatValley,
        lambda draw: (draw.normal(draw.size + 1), draw.scaled(draw.normal())),
        flags=("strict_minimum",),
    ),
    KnownProblem(
        "absolute_deviation",
        AbsoluteDeviation,
        lambda draw: (draw.scaled(draw.away_from_zero(draw.size)),),
        lambda x: x,
        flags=("strict_minimum",),
    ),
    KnownProblem(
        "saddle",
        Saddle,
        lambda draw: (draw.scaled(draw.away_from_zero(draw.size)),),
        flags=("strict_minimum",),
    ),
    KnownProblem("farthest_point", FarthestPoint, _sphere_inputs, flags=("strict_minimum",)),
    KnownProblem(
        "repeated_eigenvalue",
        Eigenvector,
        _repeated_eigenvalue_inputs,
        flags=("strict_minimum",),
    ),
    KnownProblem(
        "ill_conditioned_quadratic",
        Quadratic,
        _ill_conditioned_inputs,
        flags=("well_conditioned",),
    ),
)
"""The problems of this module."""
