"""Tensors brought to a given length, whatever the size of their entries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddn_etf._autograd import is_left_to_autograd

__all__ = ["rows_of_length", "unit_norm"]


def rows_of_length(matrix: Tensor, length: float) -> Tensor:
    """Bring all rows of ``(n, d)`` to one length; zero, with zero derivatives, for rows of zeros."""
    if is_left_to_autograd(matrix):
        result: Tensor = _RowsOfLength.apply(matrix, length)
        return result
    return _rows_of_length(matrix, length)[0]


def unit_norm(matrix: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix divided by its Frobenius norm, and that norm as a multiple of ``unit``.

    Args:
        matrix: ``(m, n)``.
        unit: () its largest absolute entry, or infinity if it counts as zero: the result is zero then,
            and so are its derivatives.
    """
    scaled = matrix / unit
    norm = torch.linalg.vector_norm(scaled).clamp(min=0.5)
    return scaled / norm, norm


def _rows_of_length(matrix: Tensor, length: float) -> tuple[Tensor, Tensor, Tensor]:
    # Divided by the largest entry first, so that no square over- or underflows; by infinity for
    # zeros. What is left has a norm of at least 1, or is zero.
    largest = matrix.detach().abs().amax(dim=1, keepdim=True)
    unit = largest.masked_fill_(largest == 0, torch.inf)
    scaled = matrix / unit
    factor = length / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp(min=0.5)
    return scaled * factor, factor, unit


class _RowsOfLength(torch.autograd.Function):
    """y = τ x/‖x‖ with x̄ = (τ/‖x‖) (ȳ - u ⟨u, ȳ⟩), u = x/‖x‖: fewer operations than autograd would record."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, length: float) -> Tensor:
        result, factor, unit = _rows_of_length(matrix, length)
        ctx.length = length
        ctx.save_for_backward(matrix, result, factor, unit)
        return result

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        matrix, result, factor, unit = ctx.saved_tensors
        if torch.is_grad_enabled():
            # By another name, so that hooks of the matrix are not called for this as well.
            given = matrix.view_as(matrix)
            again, *_ = _rows_of_length(given, ctx.length)
            (gradient,) = torch.autograd.grad(again, given, cotangent, create_graph=True)
            return gradient, None
        direction = result / ctx.length
        along = (direction * cotangent).sum(dim=1, keepdim=True)
        across = torch.addcmul(cotangent, direction, along, value=-1)
        return across.mul_(factor).div_(unit), None
