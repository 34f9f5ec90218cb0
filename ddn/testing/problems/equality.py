"""Problems with equality constraints that are linear, or linear objectives on them."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.formulas import equality_qp, solve_positive, times
from ddn.testing.problems.known import KnownProblem

__all__ = ["PROBLEMS", "Balance", "EqualityQP", "LeastNorm", "Softmax"]


class EqualityQP(DeclarativeNode):
    """argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b.

    Source: Nocedal and Wright (2006), section 16.1.
    """

    signature = "(n,n),(n),(p,n),(p)->(n)"

    def objective(self, Q: Tensor, q: Tensor, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y @ Q @ y) + q @ y

    def equality(self, Q: Tensor, q: Tensor, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return A @ y - b


def _equality_qp_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    p = (n + 1) // 2
    q, b = draw.scaled(draw.normal(n)), draw.scaled(draw.normal(p))
    return draw.positive_definite(n), q, draw.matrix(p, n), b


class LeastNorm(DeclarativeNode):
    """argmin_y  ½ ‖y‖²   subject to   A y = b:  y = Aᵀ (A Aᵀ)⁻¹ b.

    The inputs appear in the constraint alone. The scale multiplies A and b: y does not depend on it, its
    multipliers do.
    """

    signature = "(p,n),(p)->(n)"

    def objective(self, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y.square().sum()

    def equality(self, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return A @ y - b


def _least_norm_inputs(draw: Draw) -> tuple[Tensor, ...]:
    p = (draw.size + 1) // 2
    return draw.scaled(draw.matrix(p, draw.size)), draw.scaled(draw.normal(p))


def _least_norm_multipliers(A: Tensor, b: Tensor) -> Tensor:
    return -solve_positive(A @ A.mT, b)


class Softmax(DeclarativeNode):
    """argmin_y  t Σ y_i log y_i − xᵀy   subject to   Σ y_i = 1:  y = softmax(x/t).

    Source: Boyd and Vandenberghe (2004), example 3.25.
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        entropy: Tensor = torch.special.xlogy(y, y)
        return t * entropy.sum() - x @ y

    def equality(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1


def _softmax_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return draw.scaled(draw.normal(draw.size)), draw.scaled(draw.uniform(0.5, 2.0))


def _softmax_multipliers(x: Tensor, t: Tensor) -> dict[str, Tensor]:
    # t (log y_i + 1) − x_i + λ = 0
    value = t * ((x / t.unsqueeze(-1)).logsumexp(-1) - 1)
    return {"equality_multipliers": value.unsqueeze(-1)}


class Balance(DeclarativeNode):
    """argmin_(u,v)  ½ ‖u − x‖² + ½ (v − c)²   subject to   Σ u_i = v,  a vector and a number.

    The imbalance spreads evenly: with λ = (Σ x_i − c) / (n + 1), u = x − λ and v = c + λ.
    """

    signature = "(n),()->(n),()"

    def objective(self, x: Tensor, c: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return 0.5 * (u - x).square().sum() + 0.5 * (v - c).square()

    def equality(self, x: Tensor, c: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return (u.sum() - v).unsqueeze(0)


def _excess(x: Tensor, c: Tensor) -> Tensor:
    return (x.sum(-1) - c) / (x.shape[-1] + 1)


def _balance(x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    excess = _excess(x, c)
    return x - excess.unsqueeze(-1), c + excess


def _equality_multipliers(value: Tensor) -> dict[str, Any]:
    return {"equality_multipliers": value}


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "equality_qp",
        EqualityQP,
        _equality_qp_inputs,
        lambda *inputs: equality_qp(*inputs)[0],
        multipliers=lambda *inputs: _equality_multipliers(equality_qp(*inputs)[1]),
    ),
    KnownProblem(
        "least_norm",
        LeastNorm,
        _least_norm_inputs,
        lambda A, b: times(A.mT, -_least_norm_multipliers(A, b)),
        multipliers=lambda A, b: _equality_multipliers(_least_norm_multipliers(A, b)),
    ),
    KnownProblem(
        "softmax",
        Softmax,
        _softmax_inputs,
        lambda x, t: (x / t.unsqueeze(-1)).softmax(-1),
        multipliers=_softmax_multipliers,
    ),
    KnownProblem(
        "balance",
        Balance,
        lambda draw: (draw.scaled(draw.normal(draw.size)), draw.scaled(draw.normal())),
        _balance,
        multipliers=lambda x, c: _equality_multipliers(_excess(x, c).unsqueeze(-1)),
    ),
)
"""The problems of this module."""
