"""Linear equations in a symmetric positive definite matrix that is given by its eigenbasis.

Functions of a polar factor's stretch S = (CᵀC)^{1/2} need S⁻¹ and the solution of S X + X S = R. In the
eigenbasis S = Q diag(σ) Qᵀ both are elementwise divisions, by σ_j and by σ_i + σ_j: no division by
differences σ_i − σ_j, so that repeated singular values do no harm.

The eigenbasis is a shortcut to the value. Derivatives come from the equations themselves, so that they
are right for any order although the eigenbasis is passed as a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddn.batching import align_mapped_dimensions
from ddn.forward_mode import saved_primals
from ddn.functional import isolated

__all__ = ["divide_right", "solve_sylvester"]


def solve_sylvester(matrix: Tensor, right_side: Tensor, basis: Tensor, values: Tensor) -> Tensor:
    """X with S X + X S = R.

    Args:
        matrix: S, ``(*batch, r, r)``, symmetric positive semidefinite.
        right_side: R, ``(*batch, r, r)``.
        basis: Q, ``(*batch, r, r)``, eigenvectors of S in columns; a constant.
        values: σ ≥ 0, ``(*batch, r)``, eigenvalues of S; a constant. Where σ_i + σ_j is zero to
            rounding, the equation leaves the entry free and the minimum-norm solution has 0 there.
    """
    result: Tensor = _SpectralSolve.apply(_Sylvester(), matrix, right_side, basis, values)
    return result


def divide_right(matrix: Tensor, right_side: Tensor, basis: Tensor, values: Tensor) -> Tensor:
    """X with X S = B, for B ``(*batch, d, r)``; arguments as for :func:`solve_sylvester`."""
    result: Tensor = _SpectralSolve.apply(_RightDivision(), matrix, right_side, basis, values)
    return result


@dataclass(frozen=True)
class _Sylvester:
    """The map X ↦ S X + X S, self-adjoint in X."""

    def solve(self, right_side: Tensor, basis: Tensor, values: Tensor) -> Tensor:
        inner = basis.mT @ right_side @ basis
        return basis @ (inner * reciprocal(values.unsqueeze(-1) + values.unsqueeze(-2))) @ basis.mT

    def apply(self, matrix: Tensor, x: Tensor) -> Tensor:
        return matrix @ x + x @ matrix

    def matrix_gradient(self, x: Tensor, cotangent: Tensor) -> Tensor:
        return cotangent @ x.mT + x.mT @ cotangent


@dataclass(frozen=True)
class _RightDivision:
    """The map X ↦ X S, self-adjoint in X."""

    def solve(self, right_side: Tensor, basis: Tensor, values: Tensor) -> Tensor:
        return (right_side @ basis) * reciprocal(values.unsqueeze(-2)) @ basis.mT

    def apply(self, matrix: Tensor, x: Tensor) -> Tensor:
        return x @ matrix

    def matrix_gradient(self, x: Tensor, cotangent: Tensor) -> Tensor:
        return x.mT @ cotangent


class _SpectralSolve(torch.autograd.Function):
    """X with A_S(X) = R for a map A_S that is linear in S and in X, and self-adjoint in X.

    From A_S(dX) = dR − A_dS(X):  R̄ = A_S⁻¹(X̄)  and  S̄ = −(∂/∂S ⟨R̄, A_S(X)⟩).
    """

    @staticmethod
    @isolated
    def forward(
        equation: Any, matrix: Tensor, right_side: Tensor, basis: Tensor, values: Tensor
    ) -> Tensor:
        x: Tensor = equation.solve(right_side, basis, values)
        # The eigenbasis comes from a Gram matrix: one refinement with S itself regains its lost digits.
        residual = right_side - equation.apply(matrix, x)
        correction: Tensor = equation.solve(residual, basis, values)
        return x + correction

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.equation, matrix, _, basis, values = inputs
        ctx.save_for_backward(output, matrix, basis, values)
        ctx.save_for_forward(output, matrix, basis, values)

    @staticmethod
    @isolated
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix, basis, values = ctx.saved_tensors
        grad_right = _SpectralSolve.apply(ctx.equation, matrix, cotangents[0], basis, values)
        grad_matrix = None
        if ctx.needs_input_grad[1]:
            grad_matrix = -ctx.equation.matrix_gradient(x, grad_right)
        return None, grad_matrix, grad_right, None, None

    @staticmethod
    @isolated
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        with saved_primals(ctx) as (x, matrix, basis, values):
            tangent_matrix, tangent_right = tangents[:2]
            right = torch.zeros_like(x) if tangent_right is None else tangent_right
            if tangent_matrix is not None:
                right = right - ctx.equation.apply(tangent_matrix, x)
            result: Tensor = _SpectralSolve.apply(ctx.equation, matrix, right, basis, values)
        return result

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[Any], equation: Any, *tensors: Tensor
    ) -> tuple[Tensor, int]:
        aligned = align_mapped_dimensions(tensors, in_dims[1:], (2, 2, 2, 1))
        return _SpectralSolve.apply(equation, *aligned), 0


def reciprocal(values: Tensor) -> Tensor:
    """1/x for ``(*batch, n, m)``, x ≥ 0, and 0 where x vanishes relative to the largest entry."""
    # Values are non-negative, and sums of two of them at least as large as each.
    smallest = 4 * torch.finfo(values.dtype).eps * values.amax((-2, -1), keepdim=True)
    return torch.where(values > smallest, values.reciprocal(), 0)
