"""Projection onto the probability simplex in the geometry of entropy: softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.failure import apply_policy, format_indices
from ddn.node import DeclarativeNode

__all__ = ["EntropicSimplexProjection", "project_simplex_entropic"]


class EntropicSimplexProjection(DeclarativeNode):
    """argmin_y  Σ y_i log y_i − xᵀy   subject to   Σ y_i = 1,   which is softmax(x).

    The projection of exp(x) onto the simplex in Kullback-Leibler divergence; y > 0 holds by itself.

    Shapes: x ``(*batch, n)``; returns ``(*batch, n)``.

    Raises:
        SolveError: where x has NaN or +∞ (with ``on_failure="raise"``).

    Source: Beck and Teboulle (2003), mirror descent with the entropy; Boyd and Vandenberghe (2004),
    example 3.25.
    """

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = torch.special.xlogy(y, y).sum() - x @ y
        return value

    def equality(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1

    def solve(self, x: Tensor) -> Tensor:
        y = torch.softmax(x, -1)
        failed = ~y.isfinite().all(-1)
        (y,) = apply_policy(
            self.on_failure,
            failed,
            lambda: (
                f"EntropicSimplexProjection: the scores x of {format_indices(failed)} contain NaN or "
                "+inf, where softmax is not defined. Check what computes x."
            ),
            (y,),
        )
        return y

    def vjp(self, inputs: tuple[Tensor], y: Tensor, grad_y: Tensor) -> Tensor:
        # dy = (diag(y) − y yᵀ) dx, symmetric.
        return y * (grad_y - (y * grad_y).sum(-1, keepdim=True))


def project_simplex_entropic(x: Tensor) -> Tensor:
    """:class:`EntropicSimplexProjection` as a function."""
    result: Tensor = EntropicSimplexProjection()(x)
    return result
