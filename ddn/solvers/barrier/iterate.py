"""A primal-dual point with slacks: residuals of the optimality conditions, and steps that reduce them.

With slacks s > 0 and g + s = 0, the point of the central path for κ ≥ 0 solves

    ∇f + Aᵀλ + Gᵀν = 0,    h = 0,    g + s = 0,    ν_i s_i = κ            (Nocedal and Wright 2006, eq. 19.2).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.optimality import largest, relative_to
from ddn.solvers.barrier.batched import Batched
from ddn.solvers.barrier.program import FirstOrder, Values
from ddn.solvers.barrier.regularized import RegularizedSystem

__all__ = ["Direction", "Iterate", "Sizes", "StepSystem"]

# Curvature counts as a force up to this many times the extent of the problem.
_FAR = 10.0


@dataclass(frozen=True)
class Iterate(Batched):
    """A point and what is known there. Rows that do not exist have slack 1 and multiplier 0.

    Attributes:
        y: ``(batch, m)``.
        slack: s > 0, ``(batch, q)``.
        equality: λ, ``(batch, p)``.
        inequality: ν > 0, ``(batch, q)``.
        values: f, h, g at y.
        first: ∇f, A, G at y.
    """

    y: Tensor
    slack: Tensor
    equality: Tensor
    inequality: Tensor
    values: Values
    first: FirstOrder

    @property
    def forces(self) -> Tensor:
        """Aᵀλ + Gᵀν, ``(batch, m)``."""
        return self.first.pull_back(self.equality, self.inequality)

    def stationarity(self) -> Tensor:
        """∇_y L, ``(batch, m)``."""
        return self.first.gradient + self.forces

    def gap(self, exists: Tensor) -> Tensor:
        """g + s, ``(batch, q)``."""
        return torch.where(exists, self.values.inequality + self.slack, 0)

    def violation(self, exists: Tensor) -> Tensor:
        """Largest entry of h and of g + s, ``(batch,)``."""
        return torch.maximum(largest(self.values.equality), largest(self.gap(exists)))

    def mean_complementarity(self, exists: Tensor) -> Tensor:
        """Mean of ν_i s_i, ``(batch,)``; zero without inequalities."""
        return (self.inequality * self.slack).sum(-1) / exists.sum(-1).clamp_min(1)


@dataclass(frozen=True)
class Sizes(Batched):
    """Sizes of the terms that cancel at a point, so that no residual depends on units.

    Attributes:
        length: of y, ``(batch,)``.
        force: of the terms of ∇_y L, ``(batch,)``.
        equality: of the terms of h, ``(batch, p)``.
        inequality: of the terms of g, ``(batch, q)``.
        rows: ‖G_i‖, ``(batch, q)``.
        curved: of H y, ``(batch,)``.
    """

    length: Tensor
    force: Tensor
    equality: Tensor
    inequality: Tensor
    rows: Tensor
    curved: Tensor

    @classmethod
    def at(cls, point: Iterate, hessian: Tensor, extent: Tensor, floor: Tensor) -> Sizes:
        """Measure at a point.

        Args:
            point: the point.
            hessian: H there, ``(batch, m, m)``.
            extent: length that the data of the problem suggest, positive, ``(batch,)``.
            floor: a force below which nothing counts, ``(batch,)``.
        """
        curvature = hessian.abs().sum(-1).amax(-1) if hessian.shape[-1] else torch.zeros_like(floor)
        gradient, size = largest(point.first.gradient), largest(point.y)
        # Where curvature sets a length (∇f is as large as H times it), that of y = 0 is known, too.
        natural = torch.where(curvature > 0, gradient / curvature, 0)
        length = torch.maximum(size, torch.minimum(natural, extent))
        length = torch.where(length > 0, length, extent)
        # Far outside the extent, H y is so large that anything would look stationary beside it.
        reach = torch.minimum(point.y.abs(), _FAR * extent.unsqueeze(-1))
        curved = largest((hessian.abs() @ reach.unsqueeze(-1)).squeeze(-1))
        force = torch.stack([gradient, largest(point.forces), curved, floor]).amax(0)
        force = torch.where(force > 0, force, 1)
        rows = point.first.inequality.row_norms()
        equality = point.first.equality_norms * length.unsqueeze(-1)
        inequality = torch.maximum(rows * length.unsqueeze(-1), point.values.inequality.abs())
        return cls(
            length,
            force,
            torch.maximum(equality, point.values.equality.abs()),
            inequality,
            rows,
            curved,
        )

    def at_least(self, length: Tensor, force: Tensor) -> Sizes:
        """The same, but lengths and forces that are smaller count as these, ``(batch,)`` each."""
        least = torch.maximum(self.length, length)
        ratio = (least / self.length).unsqueeze(-1)
        return replace(
            self,
            length=least,
            force=torch.maximum(self.force, force),
            equality=self.equality * ratio,
            inequality=self.inequality * ratio,
        )

    @property
    def work(self) -> Tensor:
        """Force times length: the size of ν_i s_i, ``(batch,)``."""
        return self.force * self.length

    def stationarity(self, point: Iterate) -> Tensor:
        """‖∇_y L‖_∞, relative, ``(batch,)``."""
        return largest(point.stationarity()) / self.force

    def infeasibility(self, point: Iterate, exists: Tensor) -> Tensor:
        """Largest entry of h and of g + s, relative, ``(batch,)``."""
        h = relative_to(point.values.equality.abs(), self.equality)
        return torch.maximum(largest(h), largest(relative_to(point.gap(exists), self.inequality)))

    def error(self, point: Iterate, exists: Tensor, target: Tensor) -> Tensor:
        """Largest residual of the central path with κ = ``target`` ``(batch,)``, relative, ``(batch,)``."""
        product = torch.where(exists, point.inequality * point.slack - target.unsqueeze(-1), 0)
        residuals = [
            self.stationarity(point),
            self.infeasibility(point, exists),
            largest(product) / self.work,
        ]
        return torch.stack(residuals).amax(0)


@dataclass(frozen=True)
class Direction(Batched):
    """A step, one entry for each of y, s, λ and ν, and how far it may go with s and ν positive.

    Attributes:
        y: d, ``(batch, m)``.
        slack: Δs, ``(batch, q)``.
        equality: Δλ, ``(batch, p)``.
        inequality: Δν, ``(batch, q)``.
    """

    y: Tensor
    slack: Tensor
    equality: Tensor
    inequality: Tensor

    def reach(self, point: Iterate) -> tuple[Tensor, Tensor]:
        """Largest lengths ≤ ∞ with s + αΔs ≥ 0 and ν + αΔν ≥ 0, ``(batch,)`` each."""
        return _reach(point.slack, self.slack), _reach(point.inequality, self.inequality)

    def scaled(self, primal: Tensor, dual: Tensor) -> Direction:
        """α_p (d, Δs) and α_d (Δλ, Δν)."""
        primal, dual = primal.unsqueeze(-1), dual.unsqueeze(-1)
        return Direction(
            primal * self.y, primal * self.slack, dual * self.equality, dual * self.inequality
        )


def _reach(value: Tensor, change: Tensor) -> Tensor:
    if value.shape[-1] == 0:
        return value.new_full(value.shape[:-1], torch.inf)
    falling = change < 0
    ratio = torch.where(falling, -value / torch.where(falling, change, -1), torch.inf)
    return ratio.amin(-1)


class StepSystem:
    """Newton's equations for the central path at a point, s and ν eliminated and factorized once:

        [[H + Gᵀ W G, Aᵀ], [A, 0]] (d, Δλ) = −(∇_y L + Gᵀ (W (g + s) + κ/s − ν), h),    W = diag(ν/s),

    regularized as :class:`ddn.solvers.barrier.regularized.RegularizedSystem` does.
    """

    def __init__(self, point: Iterate, hessian: Tensor, exists: Tensor) -> None:
        self._point, self._exists = point, exists
        self._weight = point.inequality / point.slack
        first = point.first
        matrix = first.pinned(hessian + first.inequality.gram(self._weight))
        self._system = RegularizedSystem.of(matrix, first.equality)
        self._stationarity = point.stationarity()
        self._gap = point.gap(exists)

    def select(self, index: Tensor) -> StepSystem:
        """Some problems of the batch."""
        result = copy(self)
        result._point, result._system = self._point.select(index), self._system.select(index)
        for name in ("_exists", "_weight", "_stationarity", "_gap"):
            setattr(result, name, getattr(self, name)[index])
        return result

    @property
    def convex(self) -> Tensor:
        """Whether there is no negative curvature, ``(batch,)``."""
        return self._system.convex

    def direction(self, target: Tensor, second_order: Tensor | None = None) -> Direction:
        """Step towards the point of the central path with κ = ``target``.

        Args:
            target: ``(batch,)``.
            second_order: Δν Δs of a predictor step, which a corrector compensates (Mehrotra 1992).
        """
        point, exists = self._point, self._exists
        target = target.unsqueeze(-1)
        product = target if second_order is None else target - second_order
        central = torch.where(exists, product / point.slack - point.inequality, 0)
        return self._step(self._stationarity, point.values.equality, self._gap, central)

    def correction(self, equality: Tensor, gap: Tensor) -> Direction:
        """Shortest step that removes given residuals of h and g + s, in the norm of the system."""
        nothing = torch.zeros_like(self._stationarity)
        return self._step(nothing, equality, gap, torch.zeros_like(gap))

    def _step(
        self, stationarity: Tensor, equality: Tensor, gap: Tensor, central: Tensor
    ) -> Direction:
        G = self._point.first.inequality
        right = stationarity + G.transposed_times(self._weight * gap + central)
        d, change = self._system.solve(-right, -equality)
        slack = torch.where(self._exists, -gap - G.times(d), 0)
        return Direction(d, slack, change, central - self._weight * slack)

    def linear_residual(self, direction: Direction, primal: Tensor, dual: Tensor) -> Tensor:
        """‖∇_y L‖_∞ that the linear model predicts after a step of two lengths, ``(batch,)``."""
        change = self._point.first.pull_back(direction.equality, direction.inequality)
        model = (1 - primal).unsqueeze(-1) * self._stationarity
        return largest(model + (dual - primal).unsqueeze(-1) * change)
