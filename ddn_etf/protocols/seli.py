"""Where classifier and class means go under imbalance: the simplex-encoded-labels interpolation.

Thrampoulidis, Kini, Vakilian and Behnia, "Imbalance Trouble: Revisiting Neural-Collapse Geometry"
(2022): minimisers of the unconstrained features model with cross entropy and vanishing
regularisation satisfy, with Ẑ = [e_{y_i} - 1/K] (K×N) = V Λ Uᵀ,

    W Wᵀ ∝ V Λ Vᵀ,   Hᵀ H ∝ U Λ Uᵀ .

With n_k samples of class k and D = diag(n) this is Ẑ Ẑᵀ = M D M, M = I - 11ᵀ/K, and so
W Wᵀ ∝ (M D M)^½. All samples of a class have the same features, and the class means have the Gram
matrix of the pseudo-inverse: UΛUᵀ = Ẑᵀ ((Ẑ Ẑᵀ)^½)⁺ Ẑ, whose rows and columns repeat those of
M ((M D M)^½)⁺ M = ((M D M)^½)⁺. For equal n_k both are multiples of M, a simplex ETF.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddn_etf.frames import SELIGeometry, seli_geometry
from ddn_etf.metrics.statistics import as_matrix, of_unit_size

__all__ = ["seli_distance", "seli_mean_gram", "seli_weight_gram"]


def seli_weight_gram(counts: Sequence[int]) -> Tensor:
    """(M D M)^½ divided by its Frobenius norm: the Gram matrix W Wᵀ of the classifier.

    Args:
        counts: n_k >= 1, samples of each class, K >= 2.

    Returns:
        (K, K), float64.

    Raises:
        LabelError: a class has no samples.
        FrameSizeError: K < 2.
    """
    return _unit_norm(_geometry(counts).weight_gram)


def seli_mean_gram(counts: Sequence[int]) -> Tensor:
    """((M D M)^½)⁺ divided by its Frobenius norm: the Gram matrix of the class means.

    Args:
        counts: n_k >= 1, samples of each class, K >= 2.

    Returns:
        (K, K), float64.

    Raises:
        LabelError: a class has no samples.
        FrameSizeError: K < 2.
    """
    return _unit_norm(_geometry(counts).mean_gram)


@torch.no_grad()
def seli_distance(vectors: Tensor, gram: Tensor) -> Tensor:
    """‖X Xᵀ/‖X Xᵀ‖_F - G/‖G‖_F‖_F, in [0, 2], between the Gram matrix of rows and a given one.

    Args:
        vectors: X (K, d), one row per class: W, or the class means as rows, not centred (the
            Gram matrices of the theory are those of the features as they are).
        gram: G (K, K), of :func:`seli_weight_gram` or :func:`seli_mean_gram`, or
            :func:`ddn_etf.frames.centering_matrix` for the distance to a simplex ETF.

    Returns:
        () float64; NaN for X = 0.

    Raises:
        ShapeError, DtypeError, FeatureError: not matrices of these shapes, or not finite.
    """
    X = of_unit_size(as_matrix("vectors", vectors, (None, None)))
    G = of_unit_size(as_matrix("gram", gram, (X.shape[0], X.shape[0])))
    distance: Tensor = (_unit_norm(X @ X.mT) - _unit_norm(G)).norm()
    return distance


def _geometry(counts: Sequence[int]) -> SELIGeometry:
    return seli_geometry(counts, dtype=torch.float64, device="cpu")


def _unit_norm(matrix: Tensor) -> Tensor:
    unit: Tensor = matrix / matrix.norm()
    return unit
