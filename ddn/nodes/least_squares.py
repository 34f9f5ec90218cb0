"""Linear least squares."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn.failure import apply_policy, format_indices
from ddn.node import DeclarativeNode

__all__ = ["LeastSquares", "solve_least_squares"]


class LeastSquares(DeclarativeNode):
    """argmin_y  ½ ‖A y − b‖²   for A with full column rank.

    Shapes: A ``(*batch, m, n)`` with m ≥ n, b ``(*batch, m)``; returns ``(*batch, n)``. For several right
    sides give A a batch dimension of size 1.

    Raises:
        SolveError: where A has dependent columns to rounding, or A or b is not finite (with
            ``on_failure="raise"``).
        ShapeError: if m < n.

    Source: Golub and Pereyra (1973), for the derivative; by a QR factorization A = Q R.
    """

    signature = "(m,n),(m)->(n)"

    def objective(self, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (A @ y - b).square().sum()

    def solve(self, A: Tensor, b: Tensor) -> Tensor:
        if A.shape[-2] < A.shape[-1]:
            raise ShapeError(
                f"LeastSquares needs at least as many rows as columns, but A has shape {tuple(A.shape)}: "
                "the minimizer is not unique. LinearSystem gives the one of minimum norm."
            )
        failed = column_deficiency(A) | ~b.isfinite().all(-1)
        safe = replace_failed(A, failed)
        q, r = torch.linalg.qr(safe)
        y = torch.linalg.solve_triangular(r, q.mT @ b.unsqueeze(-1), upper=True).squeeze(-1)
        (y,) = apply_policy(
            self.on_failure,
            failed,
            lambda: (
                f"LeastSquares: A has linearly dependent columns (or A or b is not finite) for "
                f"{format_indices(failed)}, so that the minimizer is not unique. Remove dependent "
                "columns, add rows for a ridge penalty, or use on_failure='nan'."
            ),
            (y,),
        )
        return y

    def vjp(
        self, inputs: tuple[Tensor, Tensor], y: Tensor, grad_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        A, b = inputs
        # AᵀA dy = dAᵀ (b − A y) + Aᵀ (db − dA y); with w = (AᵀA)⁻¹ ȳ.
        r = torch.linalg.qr(replace_failed(A, column_deficiency(A))).R
        half = torch.linalg.solve_triangular(r.mT, grad_y.unsqueeze(-1), upper=False)
        w = torch.linalg.solve_triangular(r, half, upper=True)
        residual = b.unsqueeze(-1) - A @ y.unsqueeze(-1)
        grad_b = A @ w
        return residual @ w.mT - grad_b @ y.unsqueeze(-2), grad_b.squeeze(-1)


def solve_least_squares(A: Tensor, b: Tensor) -> Tensor:
    """:class:`LeastSquares` as a function."""
    result: Tensor = LeastSquares()(A, b)
    return result


def column_deficiency(matrix: Tensor) -> Tensor:
    """Whether columns of ``(*batch, m, n)`` are dependent to rounding, or not finite; ``(*batch,)``."""
    with torch.no_grad():
        finite = matrix.isfinite().all(-1).all(-1)
        # Columns of unit length make the test independent of their units.
        length = torch.linalg.vector_norm(matrix, dim=-2, keepdim=True)
        unit = matrix / torch.where(length > 0, length, 1)
        unit = torch.where(finite[..., None, None], unit, 0)
        diagonal = torch.linalg.qr(unit).R.diagonal(dim1=-2, dim2=-1).abs()
        threshold = 10 * matrix.shape[-2] * torch.finfo(matrix.dtype).eps
        deficient: Tensor = ~finite | (diagonal <= threshold).any(-1)
        return deficient


def replace_failed(matrix: Tensor, failed: Tensor) -> Tensor:
    """The matrices with an identity in place of those that have no unique solution."""
    rows, columns = matrix.shape[-2:]
    identity = torch.eye(rows, columns, dtype=matrix.dtype, device=matrix.device)
    return torch.where(failed[..., None, None], identity, matrix)
