"""Problems without a solution, and a node that returns something else."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

import torch
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.known import KnownProblem

__all__ = [
    "PROBLEMS",
    "ContradictoryEqualities",
    "ContradictoryInequalities",
    "EmptyBox",
    "UnboundedFunction",
    "UnboundedProgram",
    "WrongSolve",
]


class ContradictoryEqualities(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   Σ y_i = b,  Σ y_i = 2 b,  with b ≠ 0: infeasible."""

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def equality(self, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y.sum() - b, y.sum() - 2 * b])


class ContradictoryInequalities(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   Σ y_i ≤ −b,  Σ y_i ≥ b,  with b > 0: infeasible."""

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def inequality(self, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y.sum() + b, b - y.sum()])


class EmptyBox(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   b ≤ y ≤ −b,  with b > 0: infeasible."""

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def bounds(self, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return b, -b


def _contradiction_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return draw.scaled(draw.normal(draw.size)), draw.scaled(draw.uniform(0.5, 2.0))


class UnboundedFunction(DeclarativeNode):
    """argmin_y  xᵀy,  with x ≠ 0: unbounded."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y


class UnboundedProgram(DeclarativeNode):
    """argmin_y  −Σ y_i   subject to   y ≥ x:  unbounded."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return -y.sum()

    def bounds(self, x: Tensor) -> tuple[Tensor, None]:
        return x, None


class WrongSolve(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²,  but ``solve`` returns 2 x."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def solve(self, x: Tensor) -> Tensor:
        return 2 * x


def _any_inputs(draw: Draw) -> tuple[Tensor, ...]:
    return (draw.scaled(draw.away_from_zero(draw.size)),)


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "contradictory_equalities",
        ContradictoryEqualities,
        _contradiction_inputs,
        flags=("feasible",),
    ),
    KnownProblem(
        "contradictory_inequalities",
        ContradictoryInequalities,
        _contradiction_inputs,
        flags=("feasible",),
    ),
    KnownProblem("empty_box", EmptyBox, _contradiction_inputs, flags=("feasible",)),
    KnownProblem("unbounded_function", UnboundedFunction, _any_inputs, flags=("optimal",)),
    KnownProblem("unbounded_program", UnboundedProgram, _any_inputs, flags=("optimal",)),
    KnownProblem("wrong_solve", WrongSolve, _any_inputs, flags=("optimal",)),
)
"""The problems of this module."""
