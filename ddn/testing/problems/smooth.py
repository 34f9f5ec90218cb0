"""Problems without constraints."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.formulas import bisect, polish, solve_positive
from ddn.testing.problems.known import KnownProblem

__all__ = [
    "PROBLEMS",
    "AreaHyperbolicSine",
    "BadlyScaledQuadratic",
    "DoubleWell",
    "LearnedPrior",
    "LogarithmicBarrier",
    "PseudoHuberMean",
    "Quadratic",
    "Ridge",
    "Sigmoid",
    "UnusedInput",
]


class Quadratic(DeclarativeNode):
    """argmin_y  ½ yᵀQ y − bᵀy  with Q ≻ 0, shared by the batch:  y = Q⁻¹ b."""

    signature = "(n,n),(n)->(n)"

    def objective(self, Q: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y @ Q @ y) - b @ y


def _quadratic_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return draw.shared().positive_definite(draw.size), draw.scaled(draw.normal(draw.size))


class BadlyScaledQuadratic(DeclarativeNode):
    """argmin_y  ½ Σ d_i y_i² − bᵀy  with d_i from 10⁻⁶ to 10⁶:  y_i = b_i / d_i."""

    signature = "(n),(n)->(n)"

    def objective(self, d: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (d * y.square()).sum() - b @ y


def _badly_scaled_inputs(draw: Draw) -> tuple[Tensor, ...]:
    exponents = torch.linspace(-6, 6, draw.size, dtype=torch.float64)
    d = 10**exponents * draw.uniform(0.5, 2.0, draw.size)
    return d, d * draw.scaled(draw.away_from_zero(draw.size))


class Ridge(DeclarativeNode):
    """argmin_Y  ½ ‖A Y − B‖² + ½ r ‖Y‖²,  a matrix:  Y = (AᵀA + r I)⁻¹ AᵀB."""

    signature = "(m,n),(m,k),()->(n,k)"

    def objective(self, A: Tensor, B: Tensor, r: Tensor, Y: Tensor) -> Tensor:
        return 0.5 * (A @ Y - B).square().sum() + 0.5 * r * Y.square().sum()


def _ridge_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n, k = min(draw.size, 3), 2
    A, B = draw.matrix(draw.size, n), draw.normal(draw.size, k)
    return draw.scaled(A), draw.scaled(B), draw.scaled(draw.uniform(0.1, 1.0), 2)


def _ridge(A: Tensor, B: Tensor, r: Tensor) -> Tensor:
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    factor = torch.linalg.cholesky(A.mT @ A + r[..., None, None] * identity)
    return torch.cholesky_solve(A.mT @ B, factor)


class PseudoHuberMean(DeclarativeNode):
    """argmin_y  Σ √(δ² + (y − x_i)²),  a robust mean.

    Source: Charbonnier, Blanc-Féraud, Aubert and Barlaud (1994); a robust pooling of Gould, Hartley and
    Campbell (2021), section 6.1.
    """

    signature = "(n),()->()"

    def objective(self, x: Tensor, delta: Tensor, y: Tensor) -> Tensor:
        return (delta.square() + (y - x).square()).sqrt().sum()


def _pseudo_huber_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return draw.scaled(draw.normal(draw.size)), draw.scaled(draw.uniform(0.5, 2.0))


def _pseudo_huber_mean(x: Tensor, delta: Tensor) -> Tensor:
    def distances(y: Tensor) -> tuple[Tensor, Tensor]:
        difference = y.unsqueeze(-1) - x
        return difference, (delta.unsqueeze(-1).square() + difference.square()).sqrt()

    def slope(y: Tensor) -> Tensor:
        difference, distance = distances(y)
        return (difference / distance).sum(-1)

    def curvature(y: Tensor) -> Tensor:
        _, distance = distances(y)
        return (delta.unsqueeze(-1).square() / distance**3).sum(-1)

    return polish(slope, curvature, bisect(slope, x.amin(-1), x.amax(-1)))


class Sigmoid(DeclarativeNode):
    """argmin_y  t Σ (y_i log y_i + (1 − y_i) log(1 − y_i)) − xᵀy:  y = 1 / (1 + exp(−x/t)).

    Source: Amos (2019), section 2.4.4.
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        entropy: Tensor = torch.special.xlogy(y, y) + torch.special.xlogy(1 - y, 1 - y)
        return t * entropy.sum() - x @ y

    def starting_point(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, 0.5)


def _temperature_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return draw.scaled(2 * draw.normal(draw.size)), draw.scaled(draw.uniform(0.5, 2.0))


class AreaHyperbolicSine(DeclarativeNode):
    """argmin_y  cosh y − x y,  one number to one number:  y = arsinh x."""

    signature = "()->()"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return y.cosh() - x * y


class LogarithmicBarrier(DeclarativeNode):
    """argmin_y  x y − w log y:  y = w / x.  The objective is NaN for y < 0."""

    signature = "(),()->()"

    def objective(self, x: Tensor, w: Tensor, y: Tensor) -> Tensor:
        return x * y - w * y.log()


class DoubleWell(DeclarativeNode):
    """argmin_y  ¼ Σ (y_i² − x_i)²,  a well on either side of zero:  y_i = ±√x_i.

    The second input chooses the side by the starting point alone; its derivative is zero.
    """

    signature = "(n),(n)->(n)"

    def objective(self, x: Tensor, side: Tensor, y: Tensor) -> Tensor:
        return 0.25 * (y.square() - x).square().sum()

    def starting_point(self, x: Tensor, side: Tensor) -> Tensor:
        return side.sign() * (2 * x).sqrt()


def _double_well_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return draw.scaled(draw.uniform(0.5, 2.0, draw.size)), draw.away_from_zero(draw.size)


class LearnedPrior(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖² + ½ exp(w) ‖y − c‖²  with parameters w, c:  y = (x + exp(w) c) / (1 + exp(w))."""

    signature = "(n)->(n)"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.log_weight = nn.Parameter(torch.tensor(-0.5))
        self.center = nn.Parameter(torch.tensor(0.75))

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        prior = self.log_weight.exp() * (y - self.center).square().sum()
        return 0.5 * (y - x).square().sum() + 0.5 * prior


def _learned_prior(x: Tensor, log_weight: Tensor, center: Tensor) -> Tensor:
    weight = log_weight.exp()
    return (x + weight * center) / (1 + weight)


class UnusedInput(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²,  which does not depend on the other input z at all."""

    signature = "(n),(k)->(n)"

    def objective(self, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem("quadratic", Quadratic, _quadratic_inputs, solve_positive),
    KnownProblem(
        "badly_scaled_quadratic", BadlyScaledQuadratic, _badly_scaled_inputs, lambda d, b: b / d
    ),
    KnownProblem("ridge", Ridge, _ridge_inputs, _ridge),
    KnownProblem(
        "pseudo_huber_mean",
        PseudoHuberMean,
        _pseudo_huber_inputs,
        _pseudo_huber_mean,
        length=lambda x, delta: delta,
    ),
    KnownProblem(
        "sigmoid", Sigmoid, _temperature_inputs, lambda x, t: (x / t[..., None]).sigmoid()
    ),
    KnownProblem(
        "area_hyperbolic_sine",
        AreaHyperbolicSine,
        lambda draw: (draw.scaled(draw.away_from_zero()),),
        torch.asinh,
    ),
    KnownProblem(
        "logarithmic_barrier",
        LogarithmicBarrier,
        lambda draw: (draw.uniform(0.5, 2.0), draw.scaled(draw.uniform(0.5, 2.0))),
        lambda x, w: w / x,
    ),
    KnownProblem(
        "double_well", DoubleWell, _double_well_inputs, lambda x, side: side.sign() * x.sqrt()
    ),
    KnownProblem(
        "learned_prior",
        LearnedPrior,
        lambda draw: (draw.scaled(draw.normal(draw.size)),),
        _learned_prior,
    ),
    KnownProblem(
        "unused_input",
        UnusedInput,
        lambda draw: (draw.scaled(draw.normal(draw.size)), draw.normal(2)),
        lambda x, z: x + 0 * z.sum(-1, keepdim=True),
    ),
)
"""The problems of this module."""
