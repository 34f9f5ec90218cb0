"""Projection onto the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.failure import apply_policy, format_indices
from ddn.node import DeclarativeNode

__all__ = ["SphereProjection", "project_sphere"]


class SphereProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   ½ (‖y‖² − 1) = 0,   which is x / ‖x‖.

    Shapes: x ``(*batch, n)``; returns ``(*batch, n)``.

    Raises:
        SolveError: where x = 0 (every point of the sphere is a projection) or is not finite (with
            ``on_failure="raise"``).

    Source: Gould, Hartley and Campbell (2021), section 5.2.
    """

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def equality(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y.square().sum() - 1).unsqueeze(0)

    def solve(self, x: Tensor) -> Tensor:
        y = x / _length(x)
        failed = ~y.isfinite().all(-1) | (x == 0).all(-1)
        (y,) = apply_policy(
            self.on_failure,
            failed,
            lambda: (
                f"SphereProjection: x is zero or not finite for {format_indices(failed)}: zero has the "
                "same distance to every point of the sphere. Move x away from zero, or use "
                "on_failure='nan'."
            ),
            (y,),
        )
        return y

    def vjp(self, inputs: tuple[Tensor], y: Tensor, grad_y: Tensor) -> Tensor:
        (x,) = inputs
        # dy = (I − y yᵀ) dx / ‖x‖.
        return (grad_y - y * (y * grad_y).sum(-1, keepdim=True)) / _length(x)


def project_sphere(x: Tensor) -> Tensor:
    """:class:`SphereProjection` as a function."""
    result: Tensor = SphereProjection()(x)
    return result


def _length(x: Tensor) -> Tensor:
    # Scaled by the largest entry, so that squares neither overflow nor vanish.
    largest = x.abs().amax(-1, keepdim=True).detach()
    scale = torch.where(largest > 0, largest, 1)
    return scale * (x / scale).square().sum(-1, keepdim=True).sqrt()
