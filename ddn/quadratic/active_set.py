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

__all__ = [
    "ActiveSetSystem",
    "factor_regular",
    "is_regular",
    "is_semidefinite",
    "solve_lower",
    "solve_upper",
]

# Pivots below this many units of rounding for each row belong to dependent rows.
_RANK = 10.0


@dataclass(frozen=True)
class ActiveSetSystem:
    """Factorized once for many right sides.

    Attributes:
        data: of the problems, one batch dimension or none.
        kept: rows of A and G that are held, ``(batch, p + k)``.
        free: variables that are not at a bound, ``(batch, n)``; None without bounds.
        factor: L, ``(batch, n, n)`` or shared.
        half: W, ``(batch, n, p + k)`` or shared; rows that are not held included.
        schur: lower Cholesky factor of the Schur complement, ``(batch, p + k, p + k)``.
        penalty: ρ, ``(batch,)``; None where Q was regular.
        regular: where both factorizations exist, ``(batch,)``.
    """

    data: QuadraticData
    kept: Tensor
    free: Tensor | None
    factor: Tensor
    half: Tensor
    schur: Tensor
    penalty: Tensor | None
    regular: Tensor

    @classmethod
    def of(cls, data: QuadraticData, kept: Tensor, free: Tensor | None) -> ActiveSetSystem:
        """Factorize."""
        matrix, rows = data.symmetric, data.rows
        if free is not None:
            mask = free.to(matrix.dtype)
            size = matrix.diagonal(dim1=-2, dim2=-1).abs().amax(-1, keepdim=True)
            fixed = (1 - mask) * torch.where(size > 0, size, 1)
            matrix = matrix * mask.unsqueeze(-1) * mask.unsqueeze(-2) + torch.diag_embed(fixed)
            rows = rows * mask.unsqueeze(-2)
        factor, regular = factor_regular(matrix)
        penalty = None
        if not bool(regular.all()):
            matrix, penalty = _augmented(matrix, rows, kept)
            factor, regular = factor_regular(matrix)
        if not bool(regular.all()):
            identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
            factor = torch.where(regular[..., None, None], factor, identity)
        half, schur = rows.mT, matrix.new_zeros(0, 0)
        if rows.shape[-2]:
            half = torch.linalg.solve_triangular(factor, rows.mT, upper=False)
            weight = kept.to(matrix.dtype)
            gram = half.mT @ half
            gram = gram * weight.unsqueeze(-1) * weight.unsqueeze(-2)
            schur, independent = factor_regular(gram + torch.diag_embed(1 - weight))
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
        forward = solve_lower(self.factor, right_y)
        if not right_rows.shape[-1]:
            return solve_upper(self.factor, forward), right_rows
        excess = _masked(times(self.half.mT, forward) - right_rows, self.kept)
        s = torch.cholesky_solve(excess.unsqueeze(-1), self.schur).squeeze(-1)
        u = solve_upper(self.factor, forward - times(self.half, s))
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


def factor_regular(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The lower factor, and where the matrix is positive definite beyond rounding."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    return factor, is_regular(matrix, factor) & (info == 0)


def is_semidefinite(matrix: Tensor) -> Tensor:
    """Where a symmetric matrix has no negative eigenvalue beyond rounding."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    shift = _RANK * matrix.shape[-1] * torch.finfo(matrix.dtype).eps * nonzero(largest(diagonal))
    shifted = matrix + torch.diag_embed(shift.unsqueeze(-1).expand_as(diagonal))
    semidefinite: Tensor = torch.linalg.cholesky_ex(shifted).info == 0
    return semidefinite


def is_regular(matrix: Tensor, factor: Tensor) -> Tensor:
    """Where the factor of a matrix shows that its rows are independent beyond rounding."""
    # A pivot against its diagonal entry: what is left of a row after those before it.
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    limit = _RANK * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
    regular: Tensor = (pivots > limit * matrix.diagonal(dim1=-2, dim2=-1)).all(-1)
    return regular


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


def solve_lower(factor: Tensor, vector: Tensor) -> Tensor:
    """L⁻¹ v."""
    if factor.ndim == vector.ndim == 2:
        solution: Tensor = torch.linalg.solve_triangular(factor, vector.mT, upper=False).mT
        return solution
    solution = torch.linalg.solve_triangular(factor, vector.unsqueeze(-1), upper=False)
    return solution.squeeze(-1)


def solve_upper(factor: Tensor, vector: Tensor) -> Tensor:
    """L⁻ᵀ v."""
    if factor.ndim == vector.ndim == 2:
        solution: Tensor = torch.linalg.solve_triangular(factor.mT, vector.mT, upper=True).mT
        return solution
    solution = torch.linalg.solve_triangular(factor.mT, vector.unsqueeze(-1), upper=True)
    return solution.squeeze(-1)
