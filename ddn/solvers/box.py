"""Bounds on the variables, l ≤ y ≤ b: projection, free variables, multipliers; no other constraints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.problem import Problem

__all__ = ["Box", "refuse_rows"]


@dataclass(frozen=True)
class Box:
    """The bounds of a flat batch of problems.

    Attributes:
        lower: l, ``(batch, m)``, −∞ where there is none.
        upper: b, likewise.
        is_bounded: whether the node states bounds at all.
    """

    lower: Tensor
    upper: Tensor
    is_bounded: bool

    @classmethod
    def of(cls, problem: Problem, operands: list[Tensor], like: Tensor) -> Box:
        """Those of a problem, in the shape of ``like``."""
        if problem.has_bounds:
            lower, upper = problem.bounds(operands)
            return cls(lower.expand_as(like), upper.expand_as(like), True)
        infinite = like.new_full((), torch.inf).expand_as(like)
        return cls(-infinite, infinite, False)

    def select(self, index: Tensor) -> Box:
        """The problems ``index``."""
        return Box(self.lower[index], self.upper[index], self.is_bounded)

    @property
    def is_empty(self) -> Tensor:
        """Where no point satisfies the bounds, ``(batch,)``."""
        crossed = self.lower > self.upper
        return (crossed | (self.lower == torch.inf) | (self.upper == -torch.inf)).any(-1)

    @property
    def has_nan(self) -> Tensor:
        """Where a bound is no number, ``(batch,)``."""
        return (self.lower.isnan() | self.upper.isnan()).any(-1)

    def project(self, y: Tensor) -> Tensor:
        """The nearest point within the bounds."""
        return torch.minimum(torch.maximum(y, self.lower), self.upper) if self.is_bounded else y

    def held(self, y: Tensor, gradient: Tensor, margin: Tensor | float = 0.0) -> Tensor:
        """Variables that are within ``margin`` of a bound and that −∇f pushes against it."""
        at_lower = (y - self.lower <= margin) & (gradient > 0)
        at_upper = (self.upper - y <= margin) & (gradient < 0)
        return at_lower | at_upper | (self.lower == self.upper)

    def projected_gradient(self, y: Tensor, gradient: Tensor) -> Tensor:
        """∇f where a variable may follow −∇f, zero elsewhere: vanishes at a stationary point."""
        return torch.where(self.held(y, gradient), 0, gradient) if self.is_bounded else gradient

    def longest_step(self, y: Tensor, direction: Tensor) -> Tensor:
        """The largest t with y + t d within the bounds, ``(batch,)``."""
        room = torch.where(direction > 0, self.upper - y, y - self.lower)
        steps = torch.where(direction == 0, torch.inf, room / direction.abs())
        if y.shape[-1] == 0:
            return y.new_full(y.shape[:-1], torch.inf)
        return steps.amin(-1)

    def multipliers(self, y: Tensor, gradient: Tensor) -> Tensor:
        """ν of l − y ≤ 0, then of y − b ≤ 0, ``(batch, 2m)``: what makes ∇f − ν_l + ν_b = 0.

        Without bounds ``(batch, 0)``.
        """
        if not self.is_bounded:
            return y[..., :0]
        at_lower, at_upper = y <= self.lower, y >= self.upper
        return torch.cat(
            [
                torch.where(at_lower, gradient, 0).clamp_min(0),
                torch.where(at_upper, -gradient, 0).clamp_min(0),
            ],
            -1,
        )


def refuse_rows(problem: Problem, solver: str) -> None:
    """Raise SignatureError where the node states constraints other than bounds."""
    name = type(problem.node).__name__
    if problem.node.inequality is not None:
        raise SignatureError(
            f"{name} states inequalities, which {solver} does not treat: use "
            "solver=ddn.solvers.InteriorPoint(), or none to get it by default."
        )
    if problem.has_equality:
        other = "InteriorPoint" if problem.has_bounds else "Newton"
        raise SignatureError(
            f"{name} states equality constraints, which {solver} does not treat: use "
            f"solver=ddn.solvers.{other}(), or none to get it by default."
        )
