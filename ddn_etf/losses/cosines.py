"""Cosines between features and class vectors, with a gradient at zero."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cosines", "unit_rows"]


def unit_rows(matrix: Tensor) -> Tensor:
    """Every row divided by its norm; rows of zeros stay zero, with zero gradient.

    Args:
        matrix: (n, d).

    Returns:
        (n, d).
    """
    # Divided by the largest entry first, so that no square over- or underflows; by infinity for
    # rows of zeros. What is left has a norm of at least 1, or is zero.
    largest = matrix.detach().abs().amax(dim=1, keepdim=True)
    scaled = matrix / torch.where(largest == 0, torch.inf, largest)
    squares = scaled.square().sum(dim=1, keepdim=True)
    return scaled * squares.clamp(min=0.25).rsqrt()


def cosines(features: Tensor, vectors: Tensor) -> Tensor:
    """cos(h_i, w_c), zero where one of the two is zero.

    Args:
        features: h, (N, d).
        vectors: w, (K, d).

    Returns:
        (N, K), in [-1, 1] up to rounding.
    """
    return unit_rows(features) @ unit_rows(vectors).mT
