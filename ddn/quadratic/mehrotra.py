"""Mehrotra's predictor-corrector method for a batch of convex quadratic programs, in batched operations only.

With C y + t = d for G y ≤ h and all bounds, slacks t > 0 and multipliers z > 0, a step solves

    [[Q + Cᵀ W C, Aᵀ], [A, 0]] (dy, dλ) = −(r_y + Cᵀ(W r_C + c), r_A),        W = diag(z/t),

by two Cholesky factorizations, for the predictor and for the corrector (Mehrotra 1992; Nocedal and Wright
2006, section 16.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.optimality import largest
from ddn.quadratic.data import QuadraticData, times
from ddn.quadratic.scaled import ScaledProgram

__all__ = ["predictor_corrector"]

# Fraction of the way to the boundary.
_FRACTION = 0.995
# Added to the diagonal, in units of ε: it keeps factorizations alive, and refinement takes it out again.
_REGULARIZATION = 100.0
# Iterations without progress after which a problem is left to others.
_PATIENCE = 5


@dataclass(frozen=True)
class _Rows:
    """C and d: stated rows, then −y ≤ −l and y ≤ u; rows whose d is infinite do not exist."""

    stated: Tensor
    right: Tensor
    exists: Tensor
    bounded: bool

    @classmethod
    def of(cls, program: ScaledProgram) -> _Rows:
        data, p = program.data, program.data.num_equalities
        right = data.right[..., p:].expand(program.size, -1)
        if data.has_bounds:
            lower, upper = (bound.expand(program.size, -1) for bound in data.bounds)
            right = torch.cat([right, -lower, upper], -1)
        exists = right.isfinite()
        return cls(data.rows[..., p:, :], torch.where(exists, right, 0), exists, data.has_bounds)

    def times(self, y: Tensor) -> Tensor:
        rows = times(self.stated, y)
        rows = torch.cat([rows, -y, y], -1) if self.bounded else rows
        return torch.where(self.exists, rows, 0)

    def transposed(self, z: Tensor) -> Tensor:
        if not self.bounded:
            return times(self.stated.mT, z)
        r = self.stated.shape[-2]
        lower, upper = z[:, r:].unflatten(-1, (2, -1)).unbind(-2)
        result: Tensor = times(self.stated.mT, z[:, :r]) - lower + upper
        return result

    def gram(self, weight: Tensor) -> Tensor:
        """Cᵀ diag(w) C."""
        r = self.stated.shape[-2]
        result: Tensor = self.stated.mT @ (weight[:, :r, None] * self.stated)
        if self.bounded:
            diagonal = weight[:, r:].unflatten(-1, (2, -1)).sum(-2)
            result = result + torch.diag_embed(diagonal)
        return result


@dataclass
class _State:
    y: Tensor
    equality: Tensor
    slack: Tensor
    multiplier: Tensor


class _System:
    """The matrix of a step, factorized."""

    def __init__(self, data: QuadraticData, rows: _Rows, weight: Tensor, refine: bool) -> None:
        self._refine = refine
        matrix = data.symmetric + rows.gram(weight)
        eps = torch.finfo(matrix.dtype).eps
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        shift = _REGULARIZATION * eps * (1 + diagonal.abs().amax(-1, keepdim=True))
        self._matrix = matrix
        shifted = matrix.clone() if refine else matrix
        shifted.diagonal(dim1=-2, dim2=-1).add_(shift)
        self._factor, _ = torch.linalg.cholesky_ex(shifted)
        self._equalities = data.rows[..., : data.num_equalities, :]
        p = self._equalities.shape[-2]
        if p:
            self._half = torch.linalg.solve_triangular(
                self._factor, self._equalities.mT.expand(*matrix.shape[:-1], p), upper=False
            )
            gram = self._half.mT @ self._half
            small = _REGULARIZATION * eps * gram.diagonal(dim1=-2, dim2=-1)
            self._schur, _ = torch.linalg.cholesky_ex(gram + torch.diag_embed(small))

    def solve(self, right_y: Tensor, right_equality: Tensor) -> tuple[Tensor, Tensor]:
        """(dy, dλ); if asked for, corrected once by the residual of the system without shifts."""
        u, s = self._once(right_y, right_equality)
        if not self._refine:
            return u, s
        rest_y = right_y - times(self._matrix, u) - times(self._equalities.mT, s)
        change = self._once(rest_y, right_equality - times(self._equalities, u))
        return u + change[0], s + change[1]

    def _once(self, right_y: Tensor, right_equality: Tensor) -> tuple[Tensor, Tensor]:
        column = right_y.unsqueeze(-1)
        if not right_equality.shape[-1]:
            return torch.cholesky_solve(column, self._factor).squeeze(-1), right_equality
        forward = torch.linalg.solve_triangular(self._factor, column, upper=False)
        excess = self._half.mT @ forward - right_equality.unsqueeze(-1)
        s = torch.cholesky_solve(excess, self._schur)
        back = forward - self._half @ s
        u = torch.linalg.solve_triangular(self._factor.mT, back, upper=True)
        return u.squeeze(-1), s.squeeze(-1)


def predictor_corrector(
    program: ScaledProgram, max_iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve the scaled programs.

    Args:
        program: in units of its data.
        max_iterations: per problem.
        tolerance: of residuals and of the mean of z t, on the scale of the data.

    Returns:
        ŷ ``(batch, n)``, multipliers of equalities, inequalities and bounds ``(batch, p + q)``, the smallest
        error, and the number of iterations, ``(batch,)`` each.
    """
    data, rows = program.data, _Rows.of(program)
    state = _first(program, rows)
    count = rows.exists.sum(-1).clamp_min(1)
    best, best_error = state, torch.full_like(program.length, torch.inf)
    iterations = torch.zeros_like(count)
    idle = torch.zeros_like(count)
    done = ~program.finite
    # Far from the limits of the dtype, steps need not be better than the iterations that follow.
    refine = tolerance < torch.finfo(data.q.dtype).eps ** 0.5
    for _ in range(max_iterations + 1):
        residuals = _residuals(data, rows, state)
        mean = (state.slack * state.multiplier * rows.exists).sum(-1) / count
        error = _error(data, rows, state, residuals, mean)
        better = error < best_error
        idle = torch.where(error < 0.9 * best_error, 0, idle + 1)
        best = _choose(better & ~done, state, best)
        best_error = torch.where(better & ~done, error, best_error)
        done = done | (best_error <= tolerance) | (idle >= _PATIENCE) | ~error.isfinite()
        if bool(done.all()):
            break
        iterations += ~done
        state = _choose(done, state, _step(data, rows, state, residuals, mean, count, refine))
    multipliers = torch.cat([best.equality, torch.where(rows.exists, best.multiplier, 0)], -1)
    return best.y, multipliers, best_error, iterations


def _first(program: ScaledProgram, rows: _Rows) -> _State:
    """Least squares with all inequalities as equations; then slacks and multipliers made positive."""
    data, p = program.data, program.data.num_equalities
    system = _System(data, rows, rows.exists.to(data.q.dtype), refine=True)
    right_y = rows.transposed(rows.right) - data.q
    y, equality = system.solve(right_y, data.right[..., :p].expand(program.size, -1))
    gap = rows.right - rows.times(y)
    slack, multiplier = (_positive(value, rows.exists) for value in (gap, -gap))
    return _State(y, equality, slack, multiplier)


def _positive(value: Tensor, exists: Tensor) -> Tensor:
    least = torch.where(exists, value, torch.inf)
    least = least.amin(-1, keepdim=True) if value.shape[-1] else value.new_zeros(len(value), 1)
    value = torch.where(least > 0, value, value + (1 - least.clamp_max(0)))
    return torch.where(exists, value.clamp_min(1e-3), 1)


def _residuals(data: QuadraticData, rows: _Rows, state: _State) -> tuple[Tensor, Tensor, Tensor]:
    p = data.num_equalities
    multiplier = torch.where(rows.exists, state.multiplier, 0)
    equalities = data.rows[..., :p, :]
    first = times(data.symmetric, state.y) + data.q
    first = first + times(equalities.mT, state.equality) + rows.transposed(multiplier)
    second = times(equalities, state.y) - data.right[..., :p]
    third = torch.where(rows.exists, rows.times(state.y) + state.slack - rows.right, 0)
    return first, second, third


def _error(
    data: QuadraticData,
    rows: _Rows,
    state: _State,
    residuals: tuple[Tensor, Tensor, Tensor],
    mean: Tensor,
) -> Tensor:
    """Largest residual relative to the size of the point, ``(batch,)``."""
    length = 1 + largest(state.y)
    force = 1 + torch.maximum(largest(state.equality), largest(state.multiplier * rows.exists))
    primal = torch.maximum(largest(residuals[1]), largest(residuals[2]))
    return torch.stack(
        [largest(residuals[0]) / force, primal / length, mean / (force * length)]
    ).amax(0)


def _step(
    data: QuadraticData,
    rows: _Rows,
    state: _State,
    residuals: tuple[Tensor, Tensor, Tensor],
    mean: Tensor,
    count: Tensor,
    refine: bool,
) -> _State:
    weight = torch.where(rows.exists, state.multiplier / state.slack, 0)
    system = _System(data, rows, weight, refine)
    first, second, third = residuals

    def direction(central: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For t dz + z dt = central."""
        term = torch.where(rows.exists, central / state.slack, 0)
        dy, change = system.solve(-first - rows.transposed(weight * third + term), -second)
        dt = torch.where(rows.exists, -third - rows.times(dy), 0)
        return dy, change, dt, term - weight * dt

    product = state.slack * state.multiplier
    predictor = direction(-product)
    reach = _reach(state, predictor).clamp_max(1)
    moved = (state.slack + reach * predictor[2]) * (state.multiplier + reach * predictor[3])
    affine = (moved * rows.exists).sum(-1) / count
    target = (affine / mean.clamp_min(torch.finfo(mean.dtype).tiny)).clamp(0, 1) ** 3 * mean
    corrector = direction(target.unsqueeze(-1) - product - predictor[2] * predictor[3])
    length = (_FRACTION * _reach(state, corrector)).clamp_max(1)
    dy, change, dt, dz = corrector
    return _State(
        state.y + length * dy,
        state.equality + length * change,
        state.slack + length * dt,
        state.multiplier + length * dz,
    )


def _reach(state: _State, step: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Largest α ≤ 1/fraction with t + α dt ≥ 0 and z + α dz ≥ 0, ``(batch, 1)``."""
    if not step[2].shape[-1]:
        return state.y.new_full((len(state.y), 1), 1 / _FRACTION)
    worst = torch.maximum(-step[2] / state.slack, -step[3] / state.multiplier).amax(
        -1, keepdim=True
    )
    return 1 / worst.clamp_min(_FRACTION)


def _choose(mask: Tensor, first: _State, second: _State) -> _State:
    where = mask.unsqueeze(-1)
    return _State(
        torch.where(where, first.y, second.y),
        torch.where(where, first.equality, second.equality),
        torch.where(where, first.slack, second.slack),
        torch.where(where, first.multiplier, second.multiplier),
    )
