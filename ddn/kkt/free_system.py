"""The KKT system of the variables that no bound fixes, and when a solution of it is accurate.

With the bound rows eliminated (:mod:`ddn.kkt.bound_rows`), variables fixed by active bounds known, and W the
diagonal that other bounds leave behind, what remains is

    [[H + W, Jᵀ], [J, −C]] (u, s) = (r_y, r_J),

for the free variables and the general rows J. All structured linear solvers work on it, by corrections
from its true residual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import torch
from torch import Tensor

from ddn.kkt.bound_rows import BoundRows
from ddn.kkt.linearized import apply_matrix, generic_direction, largest, random_signs
from ddn.kkt.system import KKTSystem
from ddn.optimality import relative_to

__all__ = ["FreeSystem", "RightSide"]

Correction = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(residual of y, residual of rows, pending) to an approximate solution for it."""

# Corrections from the true residual that are tried before a problem is given up.
_MAX_CORRECTIONS = 5
# A residual of this many units of rounding is as small as residuals get.
_ROUNDING = 10.0


@dataclass(frozen=True)
class RightSide:
    """A right side after elimination.

    Attributes:
        y: r_y, ``(*extra, *batch, m)``.
        rows: r_J, ``(*extra, *batch, r)``.
        bounds: right side of the bound rows, ``(*extra, *batch, 2m)`` or ``(*extra, *batch, 0)``.
        fixed: values of fixed variables, zero elsewhere; None if all are zero.
        contradictory: the bounds of a variable ask for different values, ``(*extra, *batch)``.
    """

    y: Tensor
    rows: Tensor
    bounds: Tensor
    fixed: Tensor | None
    contradictory: Tensor


class FreeSystem:
    """A KKT system without its bound rows.

    Args:
        system: the whole.
        rows: J, ``(*batch, r, m)``; None to use products only, in memory O(m + r).

    Attributes:
        system: the whole.
        rows: J or None.
        corner: C of the rows, ``(*batch, r)``.
        bounds: the bound rows, None without any.
    """

    def __init__(self, system: KKTSystem, rows: Tensor | None) -> None:
        self.system = system
        self.rows = rows
        self.corner = system.corner[..., : system.num_general_rows]
        self.bounds = BoundRows.of(system)
        self._weight = None
        if self.bounds is not None and bool((weight := self.bounds.weight).any()):
            self._weight = weight
        self._free = None if self.bounds is None else ~self.bounds.fixed

    @property
    def weight(self) -> Tensor | None:
        """W, ``(*batch, m)``; None for zero."""
        return self._weight

    @property
    def fixed(self) -> Tensor | None:
        """Fixed variables, ``(*batch, m)``; None without bounds."""
        return None if self.bounds is None else self.bounds.fixed

    def free(self, vector: Tensor) -> Tensor:
        """``vector`` with zeros for fixed variables."""
        return vector if self._free is None else torch.where(self._free, vector, 0)

    def product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(H + W) u + Jᵀ s, for fixed variables too, and J u − C s."""
        if s.shape[-1] == 0:
            first, second = self.system.hessian_product(u), s
        elif self.rows is not None:
            first = self.system.hessian_product(u) + apply_matrix(self.rows.mT, s)
            second = apply_matrix(self.rows, u) - self.corner * s
        else:
            zeros = s.new_zeros(*s.shape[:-1], self.system.num_bound_rows)
            first, second = self.system.repeated_product(u, torch.cat([s, zeros], -1))
            second = second[..., : s.shape[-1]]
        if self._weight is not None:
            first = first + self._weight * u
        return first, second

    def _final_product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The same as :meth:`product`, where no further one may be needed."""
        return self.product(u, s) if self.bounds is not None else self.system.final_product(u, s)

    def start(self, right_y: Tensor, right_multipliers: Tensor) -> RightSide:
        """Eliminate the bound rows from a right side."""
        r = self.corner.shape[-1]
        rows, bounds = right_multipliers[..., :r], right_multipliers[..., r:]
        if self.bounds is None:
            nothing = torch.zeros(right_y.shape[:-1], dtype=torch.bool, device=right_y.device)
            return RightSide(right_y, rows, bounds, None, nothing)
        right_y, value, contradictory = self.bounds.reduce(right_y, bounds)
        fixed = value if bool((value != 0).any()) else None
        return RightSide(right_y, rows, bounds, fixed, contradictory)

    def solve(
        self,
        right_y: Tensor,
        right_multipliers: Tensor,
        correct: Correction,
        target: float,
        limit: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Corrections from the true residual, until it is small in every problem.

        Problems are independent: one that is done keeps its solution while others are corrected.

        Args:
            right_y: ``(*extra, *batch, m)``.
            right_multipliers: ``(*extra, *batch, p + q)``.
            correct: solves for a residual, approximately.
            target: corrections end where the residual, relative to the right side, is below it.
            limit: largest relative residual of a solution; residuals at the level of rounding are
                small, too.

        Returns:
            As :meth:`ddn.kkt.system.KKTFactorization.solve`.
        """
        right = self.start(right_y, right_multipliers)
        size = self._size(right)
        everything = torch.ones(size.shape, dtype=torch.bool, device=size.device)
        if right.fixed is None:
            u, s = correct(self.free(right.y), right.rows, everything)
            first, second = self._final_product(u, s)
            residual = self.free(right.y - first), right.rows - second
            error = self._error(right, size, u, s, *residual)
            pending = ~(error <= target)
        else:
            u, s = right.fixed, torch.zeros_like(right.rows)
            first, second = self.product(u, s)
            residual = self.free(right.y - first), right.rows - second
            error, pending = torch.full_like(size, torch.inf), everything
        for _ in range(_MAX_CORRECTIONS):
            if not bool(pending.any()):
                break
            change = correct(*residual, pending)
            trial = u + change[0], s + change[1]
            values = self.product(*trial)
            rest = self.free(right.y - values[0]), right.rows - values[1]
            trial_error = self._error(right, size, *trial, *rest)
            better = pending & (trial_error < error)
            pending = better & (trial_error < 0.5 * error) & (trial_error > target)
            new, old = (*trial, *values, *rest), (u, s, first, second, *residual)
            u, s, first, second, *rest_ = map(_choose, repeat(better), new, old)
            residual = (rest_[0], rest_[1])
            error = _choose(better, trial_error, error)
        failed = ~(error <= limit) | right.contradictory
        if bool(failed.any()):
            failed = failed & ~(self._is_rounding(size, u, s, *residual) & ~right.contradictory)
            finite = largest(right_y).isfinite() & largest(right_multipliers).isfinite()
            u, s = _choose(finite, u, torch.nan), _choose(finite, s, torch.nan)
            failed = failed & finite
        if self.bounds is not None:
            more = self.bounds.multipliers(u, right.y - first, right.bounds)
            s = torch.cat([s, more], -1)
        return u, s, failed

    def _size(self, right: RightSide) -> Tensor:
        """What residuals of y are relative to, ``(*extra, *batch)``."""
        size = largest(self.free(right.y))
        moved = None if right.fixed is None else largest(right.fixed)
        if bool((right.rows != 0).any()):
            slope = self._sizes[1]
            along = largest(right.rows) / torch.where(slope > 0, slope, 1)
            moved = along if moved is None else torch.maximum(moved, along)
        if moved is None:
            return size
        return torch.maximum(size, self._sizes[0] * moved)

    @cached_property
    def probe(self) -> tuple[Tensor, Tensor]:
        """H z and J z for a vector z of entries about ±1, ``(*batch, m)`` and ``(*batch, r)``."""
        y = self.system.y
        z = random_signs(y, 1)[0] * generic_direction(y)
        first, second = self.product(z, y.new_zeros(self.corner.shape))
        return first if self._weight is None else first - self._weight * z, second

    @cached_property
    def _sizes(self) -> tuple[Tensor, Tensor]:
        """Typical largest entries of H v and J v for v of unit entries, ``(*batch,)`` each."""
        return largest(self.probe[0]), largest(self.probe[1])

    @cached_property
    def _row_sizes(self) -> Tensor:
        """Largest entry of every row of J, ``(*batch, r)``; without J, of all of them."""
        if self.rows is None:
            return self._sizes[1].unsqueeze(-1)
        return self.rows.abs().amax(-1)

    def _error(
        self,
        right: RightSide,
        size: Tensor,
        u: Tensor,
        s: Tensor,
        residual_y: Tensor,
        residual_rows: Tensor,
    ) -> Tensor:
        """Relative residual, ``(*extra, *batch)``."""
        error = relative_to(largest(residual_y), size)
        if s.shape[-1] == 0:
            return error
        terms = (
            right.rows.abs() + self.corner * s.abs() + self._row_sizes * largest(u).unsqueeze(-1)
        )
        return torch.maximum(error, largest(relative_to(residual_rows, terms)))

    def _is_rounding(
        self, size: Tensor, u: Tensor, s: Tensor, residual_y: Tensor, residual_rows: Tensor
    ) -> Tensor:
        """Whether residuals are as small as rounding in the products allows, ``(*extra, *batch)``."""
        # Random signs keep terms from canceling: what comes out is the size of the terms.
        signs = random_signs(u, 1)[0] * u, random_signs(s, 1)[0] * s
        eps = torch.finfo(u.dtype).eps
        unit = _ROUNDING * eps
        terms_y, terms_rows = map(largest, self.product(*signs))
        # Where the constraints leave nothing free, u is rounding itself: its scale is that of H⁻¹ r_y.
        curvature, slope = self._sizes
        length = size / torch.where(curvature > 0, curvature, 1)
        terms_rows = torch.maximum(terms_rows, slope * length)
        small = largest(residual_y) <= unit * terms_y
        # Terms so large that nothing but rounding is left of the right side are no solution.
        meaningful = unit * terms_y <= eps**0.25 * size
        result: Tensor = small & meaningful & (largest(residual_rows) <= unit * terms_rows)
        return result


def _choose(condition: Tensor, value: Tensor, other: Tensor | float) -> Tensor:
    """``value`` where the condition ``(*batch,)`` holds; without work where it holds for all."""
    if bool(condition.all()):
        return value
    where = condition if value.ndim == condition.ndim else condition.unsqueeze(-1)
    return torch.where(where, value, other)
