"""How well a point satisfies the optimality conditions, and which inequalities are active there.

Every residual is relative to the size of the terms that cancel in it, so that no result depends on units:

* stationarity, ‖∇_y L‖_∞, to the terms ∇f, Jᵀμ and a curvature term H e;
* h to A e, with e the solution under generic factors (so that A y = 0 is not mistaken for a small
  scale);
* a slack −g_i to ‖∇g_i‖ times the length of y, and a multiplier ν_i to ‖∇f‖/‖∇g_i‖.

With slacks and multipliers on one scale, an inequality is *active* if its multiplier is larger than its
slack, and *inactive* if it is smaller, however small both are; where they cannot be told apart beside the
accuracy of the solution, it is held. It is called *weakly active* if both are below √ε: the solution has a
kink there, or near. A test of the slack alone would take a constraint that is merely near for an active one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddn.functional import reverse
from ddn.generic import generic_signs, generic_vector
from ddn.lagrangian import Lagrangian
from ddn.problem import Problem

if TYPE_CHECKING:
    from ddn.kkt.system import KKTSystem

__all__ = [
    "ROUNDING",
    "WEAK_MARGIN",
    "Optimality",
    "Scales",
    "acceptable_residual",
    "largest",
    "relative_to",
    "scale_at_zero",
    "scale_beside",
]

# Row norms of a Jacobian of more entries are estimated, by so many products.
_MAX_ENTRIES = 2**22
_NUM_PROBES = 8
WEAK_MARGIN = 10.0
"""Multiplier and slack are told apart down to this many times the accuracy of the solution."""

ROUNDING = 100.0
"""They are told apart down to this many units of rounding."""


def acceptable_residual(dtype: torch.dtype) -> float:
    """Largest relative residual of the optimality conditions that counts as solved.

    ε^(1/4), 1.2e-4 in float64: loose enough for first-order solvers, tight enough to tell a solution
    from a point that is none. The solvers of this package reach far smaller residuals.
    """
    return float(torch.finfo(dtype).eps ** 0.25)


@dataclass(frozen=True)
class Scales:
    """Sizes of the terms of the optimality conditions at a point.

    Attributes:
        gradient: ∇f, ``(*batch, m)``.
        length: of y, ``(*batch,)``: the distance over which slacks count.
        terms: size of ∇f and of what else is known to cancel in ∇_y L, ``(*batch,)``.
        forces: size of ∇f, or of its change over ``length``: what multipliers balance, ``(*batch,)``.
        row_norms: ‖∇g_i‖ of the inequality rows, ``(*batch, q)``.
        constraint: value of all rows (h, g), ``(*batch, p + q)``.
        num_bounds: how many of the rows, at the end, are bounds.
    """

    gradient: Tensor
    length: Tensor
    terms: Tensor
    forces: Tensor
    row_norms: Tensor
    constraint: Tensor
    num_bounds: int = 0

    @classmethod
    def at(cls, problem: Problem, y: Tensor, operands: Sequence[Tensor]) -> Scales:
        """Measure at y."""
        gradient = problem.gradient(y, operands)
        start = problem.starting_point(operands)
        floor = torch.finfo(y.dtype).eps ** 0.125 * scale_at_zero(problem, y, start, operands)
        constraint = problem.constraints(y, operands)
        if not problem.has_inequality:
            terms = torch.maximum(largest(gradient), floor)
            empty = y.new_zeros(*y.shape[:-1], 0)
            return cls(gradient, largest(y), terms, terms, empty, constraint)
        q = problem.num_inequalities(y, operands)
        nothing = torch.zeros_like(constraint)
        active = torch.ones_like(constraint[..., constraint.shape[-1] - q :], dtype=torch.bool)
        direction = (generic_signs(y), nothing)
        product, _ = Lagrangian(problem).kkt_product(y, nothing, active, operands, direction)
        row_norms = _row_norms(problem, y, operands, q)
        curvature, force, size = largest(product), largest(gradient), largest(y)
        # Where curvature sets a length (∇f is as large as H times it) that of y = 0 is known, too.
        natural = torch.where(curvature > 0, force / curvature, 0)
        extent = torch.maximum(size, largest(start))
        length = torch.maximum(size, torch.minimum(natural, extent))
        length = torch.where(length > 0, length, extent)
        forces = torch.maximum(force, curvature * length)
        terms = torch.maximum(force, floor)
        return cls(gradient, length, terms, forces, row_norms, constraint, problem.num_bound_rows)

    def relative_slack(self) -> Tensor:
        """max(−g_i, 0) on its scale, ``(*batch, q)``."""
        return relative_to((-self._inequality()).clamp_min(0), self._row_length())

    def relative_violation(self) -> Tensor:
        """max(g_i, 0) on its scale, ``(*batch, q)``; at most about 1."""
        value = self._inequality().clamp_min(0)
        return relative_to(value, torch.maximum(self._row_length(), value))

    def touches(self, y: Tensor) -> Tensor:
        """Where no slack can be seen beside rounding errors, ``(*batch, q)``.

        A bound is compared with its own variable, whatever the size of the others; any other row counts.
        """
        slack, m = -self._inequality(), y.shape[-1]
        if not self.num_bounds:
            return torch.ones_like(slack, dtype=torch.bool)
        own = torch.cat([y, y], -1).abs() * ROUNDING * torch.finfo(y.dtype).eps
        stated = torch.ones_like(slack[..., : slack.shape[-1] - 2 * m], dtype=torch.bool)
        return torch.cat([stated, slack[..., slack.shape[-1] - 2 * m :] <= own], -1)

    def _inequality(self) -> Tensor:
        return self.constraint[..., self.constraint.shape[-1] - self.row_norms.shape[-1] :]

    def _row_length(self) -> Tensor:
        return self.row_norms * self.length.unsqueeze(-1)


@dataclass(frozen=True)
class Optimality:
    """Residuals of the optimality conditions, ``(*batch,)`` each, and the active set.

    Attributes:
        stationarity: ‖∇_y L‖_∞.
        primal_feasibility: ‖h‖_∞, and the largest positive g_i.
        dual_feasibility: the largest −ν_i.
        complementarity: the largest min(ν_i, −g_i).
        active: inequalities that are held at equality, ``(*batch, q)``.
        weakly_active: those whose multiplier and slack both vanish, to √ε, ``(*batch, q)``.
        terms: sizes of the terms that cancel in ∇_y L and in the constraints.
    """

    stationarity: Tensor
    primal_feasibility: Tensor
    dual_feasibility: Tensor
    complementarity: Tensor
    active: Tensor
    weakly_active: Tensor
    terms: tuple[Tensor, Tensor]

    @classmethod
    def at(cls, system: KKTSystem, scales: Scales) -> Optimality:
        """Measure at the point (y, μ) of a KKT system with all inequalities."""
        y, multipliers = system.y, system.multipliers
        q = scales.row_norms.shape[-1]
        p = multipliers.shape[-1] - q
        stationarity = system.stationarity
        curvature, tangent = system.repeated_product(
            y * generic_vector(y), torch.zeros_like(multipliers)
        )
        others = stationarity - scales.gradient
        terms = torch.stack([scales.terms, largest(others), largest(curvature)]).amax(0)
        h = scales.constraint[..., :p]
        equality = relative_to(largest(h), torch.maximum(largest(tangent[..., :p]), largest(h)))
        slack, violation = scales.relative_slack(), scales.relative_violation()
        forces = torch.maximum(scales.forces, largest(others)).unsqueeze(-1)
        nu = relative_to(multipliers[..., p:] * scales.row_norms, forces)
        complementarity = torch.minimum(nu.abs(), slack)
        # A point that is far from any solution says nothing about kinks.
        accuracy = largest(torch.cat([complementarity, violation], -1))
        accuracy = torch.where(accuracy <= acceptable_residual(y.dtype), accuracy, 0)
        resolved = (WEAK_MARGIN * accuracy).unsqueeze(-1)
        eps = torch.finfo(y.dtype).eps
        both = torch.maximum(nu.abs(), slack)
        # Above the accuracy of the solution the larger one decides, however small: variables may be of
        # very different sizes. That a kink is near is worth saying all the same.
        undecided = both <= resolved
        undecided = undecided | (both <= ROUNDING * eps) & scales.touches(y)
        weakly_active = both <= resolved.clamp_min(eps**0.5)
        return cls(
            relative_to(largest(stationarity), terms),
            torch.maximum(equality, largest(violation)),
            largest((-nu).clamp_min(0)),
            largest(complementarity),
            undecided | (nu.abs() >= slack),
            weakly_active,
            (terms, torch.maximum(largest(tangent), largest(scales.constraint))),
        )

    @cached_property
    def residuals(self) -> Tensor:
        """All four residuals, ``(4, *batch)``."""
        return torch.stack(
            [
                self.stationarity,
                self.primal_feasibility,
                self.dual_feasibility,
                self.complementarity,
            ]
        )


def scale_at_zero(problem: Problem, y: Tensor, start: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """What counts as a small gradient where y is zero and so has no scale of its own, ``(*batch,)``.

    √ε of the gradient at the starting point; zero where y is not small against that point.
    """
    return scale_beside(y, start, largest(problem.gradient(start, operands)))


def scale_beside(y: Tensor, start: Tensor, initial: Tensor) -> Tensor:
    """The same from the size of the gradient at the starting point, ``(*batch,)``."""
    eps = torch.finfo(y.dtype).eps
    small = largest(y) <= eps**0.25 * largest(start)
    return torch.where(small, eps**0.5 * initial.nan_to_num(0, 0, 0), 0)


def largest(vector: Tensor) -> Tensor:
    """‖·‖_∞ over the last dimension, zero if that is empty."""
    if vector.shape[-1] == 0:
        return vector.new_zeros(vector.shape[:-1])
    return vector.abs().amax(-1)


def relative_to(value: Tensor, size: Tensor) -> Tensor:
    """``value / size``, and the value itself where there is no size."""
    return value / torch.where(size > 0, size, 1)


def _row_norms(problem: Problem, y: Tensor, operands: Sequence[Tensor], q: int) -> Tensor:
    """‖∇g_i‖ of all inequality rows, ``(*batch, q)``: exact, or estimated where J would be too large."""
    bounds = problem.num_bound_rows
    stated = q - bounds
    norms = []
    if stated and y.numel() * stated <= _MAX_ENTRIES:
        norms.append(problem.stated_jacobian(y, operands)[..., -stated:, :].norm(dim=-1))
    elif stated:
        norms.append(_estimated_row_norms(problem, y, operands, stated))
    if bounds:
        lower, upper = problem.bounds(operands)
        finite = torch.cat([lower != -torch.inf, upper != torch.inf], -1)
        norms.append(finite.to(y.dtype).expand(*y.shape[:-1], bounds))
    return torch.cat(norms, -1) if norms else y.new_zeros(*y.shape[:-1], 0)


def _estimated_row_norms(
    problem: Problem, y: Tensor, operands: Sequence[Tensor], stated: int
) -> Tensor:
    """Root of the mean of (J z)² over vectors z of random signs, whose expectation is ‖∇g_i‖²."""
    squares = torch.zeros(())
    for probe in range(_NUM_PROBES):
        z = generic_signs(y, probe)
        _, pullback = reverse(lambda y: problem.inequality(y, operands), y)
        zeros = torch.zeros_like(problem.inequality(y, operands))
        _, pushforward = reverse(lambda v, back=pullback: back(v)[0], zeros)
        rows = pushforward(z)[0][..., :stated]
        squares = squares + rows.square() / _NUM_PROBES
    return squares.sqrt()
