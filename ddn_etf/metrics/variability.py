"""Variability within the classes against variability between them.

Σ_W = (1/N) Σ_i (h_i - μ_{y_i})(h_i - μ_{y_i})ᵀ and Σ_B = (1/K) Σ_k (μ_k - μ_G)(μ_k - μ_G)ᵀ. Neither
is formed: singular values of a covariance are squares, so half their digits would be lost. With
Σ_W = A Aᵀ and Σ_B = B Bᵀ everything follows from the factors A (d×N) and B (d×K).

Pseudo-inverses leave out the singular values of a factor that are at most
max(rows, columns) · eps · the largest one (eps = 2.2e-16), the numerical rank of a matrix in
float64. Σ_B has rank K - 1 at most, since the deviations of the class means are dependent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn_etf.metrics.statistics import SplitStatistics, sizes_of

__all__ = ["nc1", "numerical_rank", "variability_collapse_index"]


@torch.no_grad()
def nc1(statistics: SplitStatistics) -> Tensor:
    """NC1 = tr(Σ_W Σ_B⁺)/K; 0 at collapse.

    Papyan, Han and Donoho, "Prevalence of Neural Collapse during the terminal phase of deep
    learning training" (2020).

    Returns:
        () float64, >= 0; NaN where all class means are equal, and nothing can be compared.
    """
    _, K = sizes_of(statistics)
    U, sigma, _ = torch.linalg.svd(statistics.deviations / K**0.5, full_matrices=False)
    kept = _nonzero(sigma, statistics.deviations.shape)
    kept[K - 1 :] = False
    along = statistics.within @ (U[:, kept] / sigma[kept])
    value = along.square().sum() / statistics.labels.shape[0] / K
    return torch.where(kept.any(), value, torch.nan)


@torch.no_grad()
def variability_collapse_index(statistics: SplitStatistics) -> Tensor:
    """VCI = 1 - tr((Σ_W + Σ_B)⁺ Σ_B)/min(d, K-1), in [0, 1]; 0 at collapse.

    With the thin SVD [A B] = P S [V_A; V_B]ᵀ the trace is ‖V_B‖_F², whatever the condition number.

    Xu and Liu, "Quantifying the Variability Collapse of Neural Networks" (2023).

    Returns:
        () float64; 1 where all class means are equal.
    """
    d, K = sizes_of(statistics)
    # Only A Aᵀ counts, so the triangular factor of Aᵀ = QR stands for it, of size d instead of N.
    _, triangular = torch.linalg.qr(statistics.within / statistics.labels.shape[0] ** 0.5, mode="r")
    factors = torch.cat([triangular, statistics.deviations.mT / K**0.5])
    V, sigma, _ = torch.linalg.svd(factors, full_matrices=False)
    kept = _nonzero(sigma, (d, statistics.labels.shape[0] + K))
    explained: Tensor = V[-K:].square().sum(dim=0)[kept].sum()
    return 1 - explained / min(d, K - 1)


@torch.no_grad()
def numerical_rank(statistics: SplitStatistics) -> Tensor:
    """Mean over the classes of (‖H_k‖_*/‖H_k‖_F)², H_k the features of class k, not centred.

    Returns:
        () float64, between 1 and min(d, largest class); 1 at collapse. A class whose features are
        all zero counts as 0, the rank of a zero matrix.
    """
    sizes_of(statistics)
    order = torch.argsort(statistics.labels, stable=True)
    first_row = statistics.counts.cumsum(dim=0) - statistics.counts
    total = statistics.features.new_zeros(())
    # Classes of the same size are decomposed together, without padding.
    for size in sorted(set(statistics.counts.tolist())):
        rows = torch.arange(size, device=order.device)
        rows = first_row[statistics.counts == size].unsqueeze(1) + rows
        sigma = torch.linalg.svdvals(statistics.features[order[rows]])
        nuclear, squared_norm = sigma.sum(dim=1), sigma.square().sum(dim=1)
        is_zero = squared_norm == 0
        total += (nuclear.square() / torch.where(is_zero, 1, squared_norm)).sum()
    return total / statistics.num_classes


def _nonzero(sigma: Tensor, shape: tuple[int, ...]) -> Tensor:
    return sigma > max(shape) * torch.finfo(sigma.dtype).eps * sigma.amax()
