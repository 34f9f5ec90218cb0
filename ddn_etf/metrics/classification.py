"""What the classifier decides, and by what margin."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn_etf.metrics.geometry import as_bias
from ddn_etf.metrics.statistics import SplitStatistics, as_matrix, sizes_of

__all__ = ["accuracy", "cosine_margins", "ncc_mismatch"]


@torch.no_grad()
def accuracy(statistics: SplitStatistics, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Percentage of samples whose label is the prediction, argmax of W h + b.

    Args:
        statistics: of a split with K classes.
        weight: W, (K, d).
        bias: b, (K,), or None for zero.

    Returns:
        () float64, in [0, 100]. Of equal logits the first class is predicted.
    """
    correct = _predictions(statistics, weight, bias) == statistics.labels
    return 100 * correct.double().mean()


@torch.no_grad()
def ncc_mismatch(statistics: SplitStatistics, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Percentage of samples whose nearest class centre (NCC) is not the prediction.

    Args:
        statistics: of a split with K classes.
        weight: W, (K, d).
        bias: b, (K,), or None for zero.

    Returns:
        () float64, in [0, 100]; 0 at collapse. Of equal distances the first class is the nearest.
    """
    # ‖h - μ_k‖² without what does not depend on k, everything relative to the global mean.
    sizes_of(statistics)
    H = statistics.deviations
    distances = H.square().sum(dim=0) - 2 * statistics.centered @ H
    mismatch = distances.argmin(dim=1) != _predictions(statistics, weight, bias)
    return 100 * mismatch.double().mean()


@torch.no_grad()
def cosine_margins(statistics: SplitStatistics, weight: Tensor) -> Tensor:
    """cos(h - μ_G, w̃_y) - max over j ≠ y of cos(h - μ_G, w̃_j), with w̃_k = w_k - mean of all w.

    A vector of zeros has cosine 0 with everything.

    Args:
        statistics: of a split with K classes.
        weight: W, (K, d).

    Returns:
        (N,) float64, one margin per sample in [-2, 2]; K/(K-1) at collapse.
    """
    d, K = sizes_of(statistics)
    W = as_matrix("weight", weight, (K, d))
    cosines = _directions(statistics.centered) @ _directions(W - W.mean(dim=0)).mT
    own = cosines.gather(1, statistics.labels.unsqueeze(1))
    others = cosines.scatter(1, statistics.labels.unsqueeze(1), -torch.inf)
    return own.squeeze(1) - others.amax(dim=1)


def _predictions(statistics: SplitStatistics, weight: Tensor, bias: Tensor | None) -> Tensor:
    d, K = sizes_of(statistics)
    W = as_matrix("weight", weight, (K, d))
    return (statistics.features @ W.mT + as_bias(bias, W)).argmax(dim=1)


def _directions(rows: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norms == 0, 1, norms)
