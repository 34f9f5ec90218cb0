"""Diagonal scaling of a symmetric matrix that is known by products only.

Products with random signs z estimate the size of every row, the root mean square of (A z)_i, and
the diagonal,
the mean of z_i (A z)_i (Bekas, Kokiopoulou and Saad 2007). Large rows drown small ones, so that
the estimate is
repeated for the scaled matrix until its rows are of one size up to the noise of the estimate; noise itself is
not taken for a scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.linearized import random_signs
from ddn.kkt.system import KKTSystem

__all__ = ["HutchinsonDiagonal", "row_scale"]

_MAX_ROUNDS = 5
# Standard deviation of the logarithm of the row sizes: eight probes give up to 0.4 for rows of one size.
_NOISE = 0.5
# Entries of an estimated diagonal are at least this part of the size of their row.
_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class HutchinsonDiagonal:
    """A positive diagonal on the scale of H, from products with random signs, for ``ddn.kkt.ProjectedCG``.

    Uniform if all rows of H are of about one size; exact for a diagonal H of different sizes. The signs are
    the same on every call. At most five times ``probes`` products.

    Attributes:
        probes: number of products of one estimate.
    """

    probes: int = 8

    def __call__(self, system: KKTSystem) -> Tensor:
        """``(*batch, m)``."""
        like = system.y
        everything = torch.ones_like(like, dtype=torch.bool)
        return row_scale(system.hessian_product, like, everything, self.probes, signed=True)


def row_scale(
    product: Callable[[Tensor], Tensor], like: Tensor, kept: Tensor, probes: int, *, signed: bool
) -> Tensor:
    """Positive d such that the rows of A_ij/√(d_i d_j) are of one size, ``(*batch, n)``.

    Args:
        product: x ↦ A x.
        like: a tensor ``(*batch, n)``.
        kept: rows that count, ``(*batch, n)``; others get the scale 1.
        probes: number of products of one estimate.
        signed: where rows of A have a large positive diagonal, take that for their size.
    """
    result = torch.ones_like(like)
    for attempt in range(_MAX_ROUNDS):
        scale = result.rsqrt()
        squares, diagonal = torch.zeros_like(like), torch.zeros_like(like)
        for z in random_signs(like, probes, seed=attempt):
            image = scale * product(scale * z)
            squares = squares + image.square() / probes
            if signed:
                diagonal = diagonal + z * image / probes
        size = squares.sqrt()
        if signed:
            size = torch.maximum(diagonal, _LEAST_SHARE * size)
        known = kept & (size > 0) & size.isfinite()
        logarithm = torch.where(known, size, 1).log()
        count = known.sum(-1, keepdim=True).clamp_min(1)
        mean = logarithm.sum(-1, keepdim=True) / count
        deviation = torch.where(known, logarithm - mean, 0).square().sum(-1, keepdim=True) / count
        wide = deviation > _NOISE**2
        result = result * torch.where(kept, torch.where(wide & known, size, mean.exp()), 1)
        if not bool(wide.any()):
            break
    return result
