"""Numbers in general position, the same on every call: starting points, probes and test directions."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["generic_signs", "generic_vector"]


def generic_vector(like: Tensor) -> Tensor:
    """Numbers in (1/2, 3/2) without any pattern, the same on every call; ``(m,)`` for ``(*batch, m)``.

    Fractional parts of multiples of the golden ratio: a point in general position, positive, finite.
    """
    index = torch.arange(1, like.shape[-1] + 1, device=like.device, dtype=torch.float64)
    return (0.5 + (index * 0.6180339887498949).frac()).to(like.dtype)


def generic_signs(like: Tensor, probe: int = 0) -> Tensor:
    """Numbers of random sign and of size about 1, the same on every call, in the shape of ``like``.

    Not ±1: sums of two of these vanish too easily.
    """
    index = torch.arange(like.shape[-1], device=like.device, dtype=torch.float64) + 1
    fraction = (index * 0.7548776662466927 + (probe + 1) * 0.5698402909980532 * index.sqrt()).frac()
    signs = torch.where(fraction < 0.5, -1.0, 1.0).to(like.dtype)
    return (signs * generic_vector(like)).expand_as(like)
