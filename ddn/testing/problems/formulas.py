"""Closed forms that several problems share, in differentiable operations, batched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "bisect",
    "equality_qp",
    "norm",
    "polar_factor",
    "polish",
    "simplex_threshold",
    "solve_positive",
    "solve_square",
    "times",
]


def norm(x: Tensor) -> Tensor:
    """‖x‖ over the last dimension, which is kept, ``(*batch, 1)``."""
    result: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return result


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """A v of ``(*batch, m, n)`` and ``(*batch, n)``."""
    product: Tensor = (matrix @ vector.unsqueeze(-1)).squeeze(-1)
    return product


def solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """Q⁻¹ v for the symmetric part of Q, positive definite; v ``(*batch, n)``."""
    factor = torch.linalg.cholesky((matrix + matrix.mT) / 2)
    return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)


def solve_square(matrix: Tensor, right: Tensor) -> Tensor:
    """A⁻¹ v for a well-conditioned square A, by its normal equations."""
    return solve_positive(matrix.mT @ matrix, times(matrix.mT, right))


def equality_qp(Q: Tensor, q: Tensor, A: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """argmin_y  ½ yᵀQ y + qᵀy  subject to  A y = b,  and the multipliers.

    Q ≻ 0 and A has full row rank, so that λ solves (A Q⁻¹ Aᵀ) λ = −(A Q⁻¹ q + b) and
    y = −Q⁻¹ (q + Aᵀλ).
    """
    factor = torch.linalg.cholesky((Q + Q.mT) / 2)
    schur = A @ torch.cholesky_solve(A.mT.expand(*factor.shape[:-2], *A.mT.shape[-2:]), factor)
    free = torch.cholesky_solve(q.unsqueeze(-1), factor).squeeze(-1)
    multipliers = solve_positive(schur, -(times(A, free) + b))
    y = -torch.cholesky_solve((q + times(A.mT, multipliers)).unsqueeze(-1), factor).squeeze(-1)
    return y, multipliers


def simplex_threshold(x: Tensor, total: Tensor) -> Tensor:
    """τ with Σ max(x_i − τ, 0) = ``total`` (Held, Wolfe and Crowder 1974), ``(*batch,)``.

    It is an average over the entries above it, which is what is differentiated.
    """
    ordered = x.detach().sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    candidate = (ordered.cumsum(-1) - total.detach().unsqueeze(-1)) / count
    support = (ordered > candidate).sum(-1, keepdim=True)
    above = x > candidate.gather(-1, support - 1)
    return (torch.where(above, x, 0).sum(-1) - total) / above.sum(-1)


@torch.no_grad()
def bisect(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """The zero of an increasing function between ``low`` and ``high``, to the last digits."""
    for _ in range(50):
        middle = (low + high) / 2
        above = function(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def polish(
    function: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], root: Tensor
) -> Tensor:
    """A zero as a differentiable function of what ``function`` depends on: three Newton steps.

    Each step makes the derivative right to one more order (Griewank and Walther 2008, ch. 15).
    """
    y = root.detach()
    for _ in range(3):
        y = y - function(y) / slope(y)
    return y


def polar_factor(matrix: Tensor) -> Tensor:
    """The orthonormal factor of a matrix with full column rank, by the iteration of Newton and Schulz.

    X ← X (3 I − XᵀX) / 2 (Higham 2008, eq. 8.20) has no trouble with repeated singular values, and its
    derivatives converge with it.
    """
    size = torch.linalg.matrix_norm(matrix.detach(), ord=2, keepdim=True)
    y: Tensor = matrix / size
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(14):
        y = y @ (3 * identity - y.mT @ y) / 2
    return y
