"""The Hessian of quadratic programs, factorized: Q = L Lᵀ, with L triangular or diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "DiagonalFactor",
    "Factor",
    "TriangularFactor",
    "are_pivots_regular",
    "factor_or_identity",
    "factor_regular",
]

# Pivots below this many units of rounding for each row belong to dependent rows.
_RANK = 10.0


class Factor(Protocol):
    """L of a batch of matrices, or of one that they share."""

    def lower(self, vector: Tensor) -> Tensor:
        """L⁻¹ v, ``(batch, n)``."""

    def upper(self, vector: Tensor) -> Tensor:
        """L⁻ᵀ v, ``(batch, n)``."""

    def columns(self, rows: Tensor) -> Tensor:
        """L⁻¹Jᵀ for J ``(*batch, r, n)``, ``(*batch, n, r)``."""


def _solve_triangular(matrix: Tensor, right: Tensor, *, upper: bool) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(matrix, right, upper=upper)
    return solution


@dataclass(frozen=True)
class TriangularFactor:
    """A lower Cholesky factor.

    Attributes:
        matrix: L, ``(batch, n, n)`` or ``(n, n)``.
    """

    matrix: Tensor

    def lower(self, vector: Tensor) -> Tensor:
        """L⁻¹ v."""
        L = self.matrix
        if L.ndim == vector.ndim == 2:
            return _solve_triangular(L, vector.mT, upper=False).mT
        return _solve_triangular(L, vector.unsqueeze(-1), upper=False).squeeze(-1)

    def upper(self, vector: Tensor) -> Tensor:
        """L⁻ᵀ v."""
        L = self.matrix
        if L.ndim == vector.ndim == 2:
            return _solve_triangular(L.mT, vector.mT, upper=True).mT
        return _solve_triangular(L.mT, vector.unsqueeze(-1), upper=True).squeeze(-1)

    def columns(self, rows: Tensor) -> Tensor:
        """L⁻¹Jᵀ."""
        return _solve_triangular(self.matrix, rows.mT, upper=False)


@dataclass(frozen=True)
class DiagonalFactor:
    """Of a diagonal matrix.

    Attributes:
        roots: of its entries, ``(batch, n)`` or ``(n,)``.
    """

    roots: Tensor

    def lower(self, vector: Tensor) -> Tensor:
        """L⁻¹ v."""
        return vector / self.roots

    def upper(self, vector: Tensor) -> Tensor:
        """L⁻ᵀ v, the same."""
        return vector / self.roots

    def columns(self, rows: Tensor) -> Tensor:
        """L⁻¹Jᵀ."""
        return (rows / self.roots.unsqueeze(-2)).mT


def factor_regular(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The lower Cholesky factor, and where the matrix is positive definite beyond rounding."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    regular = are_pivots_regular(pivots, matrix.diagonal(dim1=-2, dim2=-1), matrix.shape[-1])
    return factor, regular.all(-1) & (info == 0)


def factor_or_identity(matrix: Tensor) -> tuple[TriangularFactor, Tensor]:
    """The same as an object; the identity where the matrix is not positive definite."""
    factor, regular = factor_regular(matrix)
    if not bool(regular.all()):
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        factor = torch.where(regular[..., None, None], factor, identity)
    return TriangularFactor(factor), regular


def are_pivots_regular(pivots: Tensor, diagonal: Tensor, size: int) -> Tensor:
    """Where a pivot, what is left of a row after those before it, is beyond rounding of the row.

    Args:
        pivots: squares of the diagonal of the factor, ``(*batch, r)``.
        diagonal: of the matrix, ``(*batch, r)``.
        size: of the matrix.
    """
    return pivots > _RANK * size * torch.finfo(pivots.dtype).eps * diagonal
