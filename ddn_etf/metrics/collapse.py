"""All metrics of one split by name."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn_etf.metrics.classification import accuracy, cosine_margins, ncc_mismatch
from ddn_etf.metrics.distance import distance_to_nearest_etf, nearest_simplex_etf, squared_distance
from ddn_etf.metrics.geometry import as_bias, equinorm, nc2, nc3, nc4
from ddn_etf.metrics.statistics import SplitStatistics, as_matrix
from ddn_etf.metrics.variability import nc1, numerical_rank, variability_collapse_index
from ddn_etf.validation import check_features, check_num_classes

__all__ = ["neural_collapse"]


@torch.no_grad()
def neural_collapse(
    features: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    reference: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every metric of neural collapse of one split.

    ============================== ================================================================
    name                           meaning
    ============================== ================================================================
    ``NC1``                        tr(Σ_W Σ_B⁺)/K, see :func:`nc1`
    ``VCI``                        see :func:`variability_collapse_index`
    ``NC2``                        distance of W Wᵀ from a simplex, see :func:`nc2`
    ``NC3``                        distance of W H̃ from a simplex, see :func:`nc3`
    ``NC4``                        ‖W μ_G + b‖, see :func:`nc4`
    ``equinorm_features``          spread of the norms of the class means, see :func:`equinorm`
    ``equinorm_weights``           spread of the norms of the rows of W
    ``equinorm_difference``        absolute difference of the two
    ``numerical_rank``             mean over classes, see :func:`numerical_rank`
    ``cosine_margin``              mean over samples, see :func:`cosine_margins`
    ``cosine_margins``             (N,), in ascending order
    ``NCC_mismatch``               per cent, see :func:`ncc_mismatch`
    ``accuracy``                   per cent
    ``weight_etf_distance``        of Wᵀ: :func:`distance_to_nearest_etf`
    ``feature_etf_distance``       of H̃, likewise
    ``etf_distance``               between the ETFs nearest to Wᵀ and to H̃
    ``weight_reference_distance``  of the ETF nearest to Wᵀ from ``reference``
    ``feature_reference_distance`` of the ETF nearest to H̃ from ``reference``
    ============================== ================================================================

    The last two are there if a reference is given. Distances are squared, of frames with unit
    Frobenius norm. For d < K - 1 there is no simplex ETF and they are NaN; other results that are
    not defined are NaN too, as each function says.

    Markou, Ajanthan and Gould, "Guiding Neural Collapse: Optimising Towards the Nearest Simplex
    Equiangular Tight Frame" (2024).

    Args:
        features: h_i, (N, d): what the weight is multiplied with, for a head with a temperature
            ``head.normalize(features)``.
        labels: y_i, (N,) integers in 0..K-1, each class at least once.
        weight: W, (K, d); decides K.
        bias: b, (K,), or None for zero.
        reference: (d, K), a frame to compare with, such as the :func:`nearest_simplex_etf` of an
            earlier epoch; its norm does not matter.

    Returns:
        Name to float64 tensor, () but for ``cosine_margins``, on the device of the features.

    Raises:
        ShapeError, DtypeError: wrong shapes or dtypes.
        FeatureError: NaN or infinity, or no samples.
        FrameSizeError: K < 2.
        LabelError: a label out of range, or a class without samples.
    """
    check_features(features)
    d = features.shape[1]
    W = as_matrix("weight", weight, (None, d))
    K = W.shape[0]
    check_num_classes(K)
    b = as_bias(bias, W)
    if reference is not None:
        reference = as_matrix("reference", reference, (d, K))
    statistics = SplitStatistics.from_features(features, labels, K)
    H = statistics.deviations
    margins = cosine_margins(statistics, W).sort().values
    feature_spread, weight_spread = equinorm(H), equinorm(W.mT)
    return {
        "NC1": nc1(statistics),
        "VCI": variability_collapse_index(statistics),
        "NC2": nc2(W),
        "NC3": nc3(statistics, W),
        "NC4": nc4(statistics, W, b),
        "equinorm_features": feature_spread,
        "equinorm_weights": weight_spread,
        "equinorm_difference": (feature_spread - weight_spread).abs(),
        "numerical_rank": numerical_rank(statistics),
        "cosine_margin": margins.mean(),
        "cosine_margins": margins,
        "NCC_mismatch": ncc_mismatch(statistics, W, b),
        "accuracy": accuracy(statistics, W, b),
        **_etf_distances(W.mT, H, reference),
    }


def _etf_distances(weight: Tensor, means: Tensor, reference: Tensor | None) -> dict[str, Tensor]:
    d, K = means.shape
    exists = d >= K - 1
    undefined = means.new_full((), torch.nan)
    weight_etf, feature_etf = (
        nearest_simplex_etf(frame) if exists else torch.full_like(frame, torch.nan)
        for frame in (weight, means)
    )
    distances = {
        "weight_etf_distance": distance_to_nearest_etf(weight) if exists else undefined,
        "feature_etf_distance": distance_to_nearest_etf(means) if exists else undefined,
        "etf_distance": squared_distance(weight_etf, feature_etf),
    }
    if reference is not None:
        distances["weight_reference_distance"] = squared_distance(weight_etf, reference)
        distances["feature_reference_distance"] = squared_distance(feature_etf, reference)
    return distances
