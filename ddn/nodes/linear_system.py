"""Linear equations: the unique solution of a square system, the shortest one of a wide system."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn.failure import apply_policy, format_indices
from ddn.node import DeclarativeNode
from ddn.nodes.least_squares import column_deficiency, replace_failed

__all__ = ["LinearSystem", "solve_linear_system"]


class LinearSystem(DeclarativeNode):
    """argmin_y  ½ ‖y‖²   subject to   A y = b,   for A with full row rank.

    For square A the constraint alone determines y = A⁻¹ b; for wide A it is the solution of minimum norm,
    y = Aᵀ (A Aᵀ)⁻¹ b.

    Shapes: A ``(*batch, m, n)`` with m ≤ n, b ``(*batch, m)``; returns ``(*batch, n)``.

    Raises:
        SolveError: where A has dependent rows to rounding, or A or b is not finite (with
            ``on_failure="raise"``).
        ShapeError: if m > n.

    Source: Golub and Van Loan (2013), section 5.6.2, by a QR factorization Aᵀ = Q R.
    """

    signature = "(m,n),(m)->(n)"

    def objective(self, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y.square().sum()

    def equality(self, A: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return A @ y - b

    def solve(self, A: Tensor, b: Tensor) -> Tensor:
        if A.shape[-2] > A.shape[-1]:
            raise ShapeError(
                f"LinearSystem needs at most as many equations as unknowns, but A has shape "
                f"{tuple(A.shape)}: A y = b has no solution in general. LeastSquares gives the nearest."
            )
        failed = column_deficiency(A.mT) | ~b.isfinite().all(-1)
        q, r = torch.linalg.qr(replace_failed(A, failed).mT)
        y = (q @ torch.linalg.solve_triangular(r.mT, b.unsqueeze(-1), upper=False)).squeeze(-1)
        (y,) = apply_policy(
            self.on_failure,
            failed,
            lambda: (
                f"LinearSystem: A has linearly dependent rows (or A or b is not finite) for "
                f"{format_indices(failed)}, so that A y = b has no solution or its multipliers are not "
                "unique. Remove dependent equations, use LeastSquares, or on_failure='nan'."
            ),
            (y,),
        )
        return y

    def vjp(
        self, inputs: tuple[Tensor, Tensor], y: Tensor, grad_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        A, b = inputs
        # The KKT system [[I, Aᵀ], [A, 0]] (u, s) = (−ȳ, 0) and λ = −(A Aᵀ)⁻¹ b:
        # b̄ = −s and Ā = λ uᵀ + s yᵀ.
        r = torch.linalg.qr(replace_failed(A.mT, column_deficiency(A.mT))).R

        def solve_gram(vector: Tensor) -> Tensor:
            half = torch.linalg.solve_triangular(r.mT, vector, upper=False)
            solution: Tensor = torch.linalg.solve_triangular(r, half, upper=True)
            return solution

        column = grad_y.unsqueeze(-1)
        s = -solve_gram(A @ column)
        u = -column - A.mT @ s
        multipliers = -solve_gram(b.unsqueeze(-1))
        return multipliers @ u.mT + s @ y.unsqueeze(-2), -s.squeeze(-1)


def solve_linear_system(A: Tensor, b: Tensor) -> Tensor:
    """:class:`LinearSystem` as a function."""
    result: Tensor = LinearSystem()(A, b)
    return result
