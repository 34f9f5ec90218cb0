"""How close classifier and class means are to a simplex frame, and to each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.frames import centering_matrix
from ddn_etf.metrics.statistics import SplitStatistics, as_matrix, of_unit_size, sizes_of
from ddn_etf.validation import check_floating, check_num_classes

__all__ = ["as_bias", "equinorm", "nc2", "nc3", "nc4"]


@torch.no_grad()
def nc2(weight: Tensor) -> Tensor:
    """NC2 = ‖WWᵀ/‖WWᵀ‖_F - M/√(K-1)‖_F, in [0, 2]; 0 where the rows of W form a simplex ETF.

    Args:
        weight: W, (K, d).

    Returns:
        () float64; NaN for W = 0.
    """
    W = of_unit_size(as_matrix("weight", weight, (None, None)))
    return _distance_to_simplex(W @ W.mT)


@torch.no_grad()
def nc3(statistics: SplitStatistics, weight: Tensor) -> Tensor:
    """NC3 = ‖W H̃/‖W H̃‖_F - M/√(K-1)‖_F, in [0, 2]; 0 where W and the class means are dual.

    Args:
        statistics: of a split with K classes.
        weight: W, (K, d).

    Returns:
        () float64; NaN for W H̃ = 0.
    """
    d, K = sizes_of(statistics)
    W = as_matrix("weight", weight, (K, d))
    return _distance_to_simplex(of_unit_size(W) @ of_unit_size(statistics.deviations))


@torch.no_grad()
def nc4(statistics: SplitStatistics, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """NC4 = ‖W μ_G + b‖₂; 0 where the logits are centred.

    Args:
        statistics: of a split with K classes.
        weight: W, (K, d).
        bias: b, (K,), or None for zero.

    Returns:
        () float64, >= 0.
    """
    d, K = sizes_of(statistics)
    W = as_matrix("weight", weight, (K, d))
    norm: Tensor = (W @ statistics.global_mean + as_bias(bias, W)).norm()
    return norm


@torch.no_grad()
def equinorm(vectors: Tensor) -> Tensor:
    """Standard deviation over mean of the norms of the columns; 0 where all have the same norm.

    Args:
        vectors: (d, K), columns are classes: H̃ or Wᵀ. The deviation is that of a sample (divided
            by K - 1).

    Returns:
        () float64, >= 0; NaN where all columns are zero.
    """
    norms: Tensor = of_unit_size(as_matrix("vectors", vectors, (None, None))).norm(dim=0)
    check_num_classes(norms.shape[0])
    return norms.std(correction=1) / norms.mean()


def as_bias(bias: Tensor | None, weight: Tensor) -> Tensor:
    """The bias b (K,) in float64, zeros for None; checked like a matrix."""
    if bias is None:
        return weight.new_zeros(weight.shape[0])
    check_floating("bias", bias)
    if bias.shape != weight.shape[:1]:
        raise ShapeError(f"bias must have shape ({weight.shape[0]},), found {tuple(bias.shape)}")
    return as_matrix("bias", bias.unsqueeze(1), (None, 1)).squeeze(1)


def _distance_to_simplex(product: Tensor) -> Tensor:
    K = product.shape[0]
    check_num_classes(K)
    product = of_unit_size(product)
    M = centering_matrix(K, dtype=product.dtype, device=product.device)
    distance: Tensor = (product / product.norm() - M / math.sqrt(K - 1)).norm()
    return distance
