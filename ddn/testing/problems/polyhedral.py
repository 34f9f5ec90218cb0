"""Linear and quadratic programs with an active set that is known because it was chosen first."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

import torch
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.formulas import equality_qp, solve_square, times
from ddn.testing.problems.known import KnownProblem

__all__ = ["PROBLEMS", "InequalityQP", "IsotonicRegression", "LinearProgram", "QuadraticProgram"]


class InequalityQP(DeclarativeNode):
    """argmin_y  ½ yᵀQ y + qᵀy   subject to   G y ≤ h,  the first half of the rows active.

    Source: Nocedal and Wright (2006), section 16.4.
    """

    signature = "(n,n),(n),(k,n),(k)->(n)"

    def objective(self, Q: Tensor, q: Tensor, G: Tensor, h: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y @ Q @ y) + q @ y

    def inequality(self, Q: Tensor, q: Tensor, G: Tensor, h: Tensor, y: Tensor) -> Tensor:
        return G @ y - h


def _inequality_qp_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    count = _num_active(n)
    y, Q = draw.normal(n), draw.positive_definite(n)
    G, slack = _polytope(draw, count)
    q = -times(Q, y) - times(G[..., :count, :].mT, draw.uniform(0.2, 2.0, count))
    return Q, draw.scaled(q), G, draw.scaled(times(G, y) + slack)


def _num_active(n: int) -> int:
    return (n + 1) // 2


def _polytope(draw: Draw, active: int) -> tuple[Tensor, Tensor]:
    """Rows, independent as far as they are active, and their slacks at the solution."""
    rows = torch.cat([draw.matrix(active, draw.size), draw.direction(draw.size).unsqueeze(-2)], -2)
    rows = torch.cat([rows, draw.direction(draw.size).unsqueeze(-2)], -2)
    slack = draw.uniform(0.3, 2.0, active + 2)
    return rows, torch.where(torch.arange(active + 2) < active, 0, slack)


def _inequality_qp(Q: Tensor, q: Tensor, G: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    count = _num_active(q.shape[-1])
    y, active = equality_qp(Q, q, G[..., :count, :], h[..., :count])
    return y, torch.cat([active, torch.zeros_like(h[..., count:])], -1)


class QuadraticProgram(DeclarativeNode):
    """argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b,  G y ≤ h.

    Source: Amos and Kolter (2017).
    """

    signature = "(n,n),(n),(p,n),(p),(k,n),(k)->(n)"

    def objective(self, Q: Tensor, q: Tensor, *constraints_and_y: Tensor) -> Tensor:
        y = constraints_and_y[-1]
        return 0.5 * (y @ Q @ y) + q @ y

    def equality(
        self, Q: Tensor, q: Tensor, A: Tensor, b: Tensor, G: Tensor, h: Tensor, y: Tensor
    ) -> Tensor:
        return A @ y - b

    def inequality(
        self, Q: Tensor, q: Tensor, A: Tensor, b: Tensor, G: Tensor, h: Tensor, y: Tensor
    ) -> Tensor:
        return G @ y - h


def _quadratic_program_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size + 1
    draw = Draw(draw.generator, n, draw.batch, draw.scale)
    active = n // 2
    y, Q, rows = draw.normal(n), draw.positive_definite(n), draw.matrix(1 + active, n)
    A, first = rows[..., :1, :], rows[..., 1:, :]
    others = draw.direction(n).unsqueeze(-2)
    G = torch.cat([first, others], -2)
    h = times(G, y) + torch.where(torch.arange(active + 1) < active, 0, draw.uniform(0.3, 2.0, 1))
    q = -times(Q, y) - times(A.mT, draw.normal(1))
    q = q - times(first.mT, draw.uniform(0.2, 2.0, active))
    return Q, draw.scaled(q), A, draw.scaled(times(A, y)), G, draw.scaled(h)


def _quadratic_program(
    Q: Tensor, q: Tensor, A: Tensor, b: Tensor, G: Tensor, h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    active = q.shape[-1] // 2
    rows = torch.cat([A, G[..., :active, :]], -2)
    y, multipliers = equality_qp(Q, q, rows, torch.cat([b, h[..., :active]], -1))
    nu = torch.cat([multipliers[..., 1:], torch.zeros_like(h[..., active:])], -1)
    return y, multipliers[..., :1], nu


class LinearProgram(DeclarativeNode):
    """argmin_y  cᵀy   subject to   G y ≤ h,  at a vertex that the first n rows meet:  y = G₁⁻¹ h₁.

    The derivative with respect to the cost is zero.
    """

    signature = "(n),(k,n),(k)->(n)"

    def objective(self, c: Tensor, G: Tensor, h: Tensor, y: Tensor) -> Tensor:
        return c @ y

    def inequality(self, c: Tensor, G: Tensor, h: Tensor, y: Tensor) -> Tensor:
        return G @ y - h


def _linear_program_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    y = draw.normal(n)
    G, slack = _polytope(draw, n)
    c = -times(G[..., :n, :].mT, draw.uniform(0.2, 2.0, n))
    return c, G, draw.scaled(times(G, y) + slack)


def _linear_program(c: Tensor, G: Tensor, h: Tensor) -> Tensor:
    n = c.shape[-1]
    return solve_square(G[..., :n, :], h[..., :n]) + 0 * c


def _linear_program_multipliers(c: Tensor, G: Tensor, h: Tensor) -> dict[str, Tensor]:
    n = c.shape[-1]
    active = solve_square(G[..., :n, :].mT, -c)
    return {"inequality_multipliers": torch.cat([active, torch.zeros_like(h[..., n:])], -1)}


class IsotonicRegression(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   y_1 ≤ y_2 ≤ … ≤ y_n:  averages over blocks.

    y_k = max_{i ≤ k} min_{j ≥ k} mean(x_i, …, x_j). For n = 1 there is no constraint at all.

    Source: Barlow, Bartholomew, Bremner and Brunk (1972), section 1.2.
    """

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def inequality(self, x: Tensor, y: Tensor) -> Tensor:
        return y[:-1] - y[1:]


def _isotonic_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    # A pair of neighbours is either pooled, with a multiplier, or apart, with a step.
    pooled = draw.choice(n - 1)
    step, nu = draw.uniform(0.2, 1.0, n - 1), draw.uniform(0.2, 1.0, n - 1)
    first = draw.normal(1)
    y = torch.cat([first, first + torch.where(pooled, 0, step).cumsum(-1)], -1)
    zero = torch.zeros_like(first)
    nu = torch.cat([zero, torch.where(pooled, nu, 0), zero], -1)
    # y_k − x_k + ν_k − ν_(k−1) = 0
    return (draw.scaled(y + nu[..., 1:] - nu[..., :-1]),)


def _isotonic(x: Tensor) -> Tensor:
    n = x.shape[-1]
    sums = torch.cat([torch.zeros_like(x[..., :1]), x.cumsum(-1)], -1)
    index = torch.arange(n, device=x.device)
    count = index + 1 - index.unsqueeze(-1)
    # means[i, j] of x_i, …, x_j
    means = (sums[..., None, 1:] - sums[..., :-1, None]) / count.clamp_min(1)
    entries = []
    for k in range(n):
        entries.append(means[..., : k + 1, k:].amin(-1).amax(-1))
    return torch.stack(entries, -1)


def _isotonic_multipliers(x: Tensor) -> dict[str, Tensor]:
    return {"inequality_multipliers": (x - _isotonic(x)).cumsum(-1)[..., :-1]}


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "inequality_qp",
        InequalityQP,
        _inequality_qp_inputs,
        lambda *inputs: _inequality_qp(*inputs)[0],
        multipliers=lambda *inputs: {"inequality_multipliers": _inequality_qp(*inputs)[1]},
    ),
    KnownProblem(
        "quadratic_program",
        QuadraticProgram,
        _quadratic_program_inputs,
        lambda *inputs: _quadratic_program(*inputs)[0],
        multipliers=lambda *inputs: dict(
            zip(
                ("equality_multipliers", "inequality_multipliers"),
                _quadratic_program(*inputs)[1:],
                strict=True,
            )
        ),
    ),
    KnownProblem(
        "linear_program",
        LinearProgram,
        _linear_program_inputs,
        _linear_program,
        multipliers=_linear_program_multipliers,
    ),
    KnownProblem(
        "isotonic_regression",
        IsotonicRegression,
        _isotonic_inputs,
        _isotonic,
        multipliers=_isotonic_multipliers,
        length=lambda x: x.abs().amax(-1),
    ),
)
"""The problems of this module."""
