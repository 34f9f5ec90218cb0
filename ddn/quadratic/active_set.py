"""The KKT system of a quadratic program with known active set, by two Cholesky factorizations.

With the free variables (those that are not at a bound) and the rows J of A and of the active rows of G,

    [[Q, Jᵀ], [J, 0]] (u, s) = (r_y, r_J)

is solved through Q = L Lᵀ, W = L⁻¹Jᵀ and the Schur complement WᵀW (Nocedal and Wright 2006, section 16.2).
Where Q is singular, Q + ρ JᵀJ takes its place, which changes no solution, as J u is known: the matrix is
positive definite whenever the solution of the quadratic program is unique and J has full rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.optimality import largest, relative_to
from ddn.quadratic.data import QuadraticData, nonzero, times
from ddn.quadratic.factor import (
    DiagonalFactor,
    Factor,
    TriangularFactor,
    factor_or_identity,
    factor_regular,
)

__all__ = ["ActiveSetSystem", "factor_of_hessian", "is_semidefinite"]

# Negative curvature below this many units of rounding for each row is none.
_ROUNDING = 10.0


@dataclass(frozen=True)
class ActiveSetSystem:
    """Factorized once for many right sides.

    Attributes:
        data: of the problems, one batch dimension or none.
        kept: rows of A and G that are held, ``(batch, p + k)``.
        free: variables that are not at a bound, ``(batch, n)``; None without bounds.
        factor: L.
        half: W, ``(batch, n, p + k)`` or shared; rows that are not held included.
        schur: lower Cholesky factor of the Schur complement, ``(batch, p + k, p + k)``.
        penalty: ρ, ``(batch,)``; None where Q was regular.
        regular: where both factorizations exist, ``(batch,)``.
    """

    data: QuadraticData
    kept: Tensor
    free: Tensor | None
    factor: Factor
    half: Tensor
    schur: Tensor
    penalty: Tensor | None
    regular: Tensor

    @classmethod
    def of(cls, data: QuadraticData, kept: Tensor, free: Tensor | None) -> ActiveSetSystem:
        """Factorize."""
        rows = data.rows if free is None else data.rows * free.to(data.rows.dtype).unsqueeze(-2)
        factor, regular, penalty = _factorized(data, rows, kept, free)
        half, schur = rows.mT, rows.new_zeros(0, 0)
        if rows.shape[-2]:
            half = factor.columns(rows)
            both = kept.unsqueeze(-1) & kept.unsqueeze(-2)
            identity = torch.eye(kept.shape[-1], dtype=rows.dtype, device=rows.device)
            schur, independent = factor_regular(torch.where(both, half.mT @ half, identity))
            regular = regular & independent
        regular = regular.expand(kept.shape[0])
        return cls(data, kept, free, factor, half, schur, penalty, regular)

    def solve(self, right_y: Tensor, right_rows: Tensor) -> tuple[Tensor, Tensor]:
        """u ``(batch, n)``, zero where variables are fixed, and s ``(batch, p + k)``, zero for other rows.

        Right sides of rows that are not held do not count.
        """
        right_rows = _masked(right_rows, self.kept)
        shift = None
        if self.penalty is not None:
            shift = self.penalty.unsqueeze(-1) * right_rows
            right_y = right_y + self._pull_rows(shift)
        if self.free is not None:
            right_y = right_y * self.free
        forward = self.factor.lower(right_y)
        if not right_rows.shape[-1]:
            return self.factor.upper(forward), right_rows
        excess = _masked(times(self.half.mT, forward) - right_rows, self.kept)
        s = torch.cholesky_solve(excess.unsqueeze(-1), self.schur).squeeze(-1)
        u = self.factor.upper(forward - times(self.half, s))
        return u, s if shift is None else s + shift

    def refined(self, right_y: Tensor, right_rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`solve`, with the relative residual, ``(batch,)``; corrected once if it is not tiny."""
        u, s = self.solve(right_y, right_rows)
        rest = self.residual(u, s, right_y, right_rows)
        error = self._error(u, s, right_y, right_rows, *rest)
        if bool((error > torch.finfo(u.dtype).eps ** 0.75).any()):
            change = self.solve(*rest)
            u, s = u + change[0], s + change[1]
            rest = self.residual(u, s, right_y, right_rows)
            error = self._error(u, s, right_y, right_rows, *rest)
        return u, s, torch.where(self.regular, error, torch.inf)

    def _error(
        self,
        u: Tensor,
        s: Tensor,
        right_y: Tensor,
        right_rows: Tensor,
        rest_y: Tensor,
        rest_rows: Tensor,
    ) -> Tensor:
        size = torch.maximum(largest(right_y), largest(right_y - rest_y))
        error = relative_to(largest(rest_y), size)
        if not s.shape[-1]:
            return error
        scale = torch.maximum(largest(right_rows), largest(u) * largest(self.data.row_norms))
        return torch.maximum(error, relative_to(largest(rest_rows), scale))

    def residual(
        self, u: Tensor, s: Tensor, right_y: Tensor, right_rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What (u, s) leave of a right side, in free variables and rows that are held."""
        rest_y = right_y - times(self.data.symmetric, u) - self._pull_rows(s)
        if self.free is not None:
            rest_y = rest_y * self.free
        return rest_y, _masked(right_rows - times(self.data.rows, u), self.kept)

    def _pull_rows(self, s: Tensor) -> Tensor:
        return times(self.data.rows.mT, s)


def is_semidefinite(matrix: Tensor) -> Tensor:
    """Where a symmetric matrix has no negative eigenvalue beyond rounding."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    shift = (
        _ROUNDING * matrix.shape[-1] * torch.finfo(matrix.dtype).eps * nonzero(largest(diagonal))
    )
    shifted = matrix + torch.diag_embed(shift.unsqueeze(-1).expand_as(diagonal))
    semidefinite: Tensor = torch.linalg.cholesky_ex(shifted).info == 0
    return semidefinite


def factor_of_hessian(data: QuadraticData) -> tuple[Factor, Tensor]:
    """L of Q, and where it exists; something regular elsewhere."""
    return _diagonal_factor(data.diagonal) or factor_or_identity(data.symmetric)


def _factorized(
    data: QuadraticData, rows: Tensor, kept: Tensor, free: Tensor | None
) -> tuple[Factor, Tensor, Tensor | None]:
    """L of Q among the free variables, where it exists, and ρ if Q alone was singular."""
    matrix, diagonal = data.symmetric, data.diagonal
    if free is not None and diagonal is not None:
        diagonal = torch.where(free, diagonal, 1)
    found = _diagonal_factor(diagonal)
    if found is not None:
        return *found, None
    if free is not None:
        size = matrix.diagonal(dim1=-2, dim2=-1).abs().amax(-1, keepdim=True)
        fixed = torch.diag_embed(nonzero(size).expand(*size.shape[:-1], matrix.shape[-1]))
        matrix = torch.where(free.unsqueeze(-1) & free.unsqueeze(-2), matrix, fixed)
    factor, regular = factor_regular(matrix)
    if bool(regular.all()):
        return TriangularFactor(factor), regular, None
    matrix, penalty = _augmented(matrix, rows, kept)
    return *factor_or_identity(matrix), penalty


def _diagonal_factor(diagonal: Tensor | None) -> tuple[Factor, Tensor] | None:
    if diagonal is None or not bool((diagonal > 0).all()):
        return None
    return DiagonalFactor(diagonal.sqrt()), diagonal.new_ones(diagonal.shape[:-1], dtype=torch.bool)


def _masked(value: Tensor, mask: Tensor) -> Tensor:
    """Zero where the mask is false, whatever stands there."""
    return value.masked_fill(~mask, 0)


def _augmented(matrix: Tensor, rows: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Q + ρ JᵀJ with the rows that are held, and ρ, which makes both terms of one size."""
    held = rows * kept.to(rows.dtype).unsqueeze(-1)
    gram = held.mT @ held
    size, other = (part.flatten(-2).abs().amax(-1) for part in (matrix, gram))
    penalty = torch.where(size > 0, size, 1) / torch.where(other > 0, other, 1)
    return matrix + penalty[..., None, None] * gram, penalty
