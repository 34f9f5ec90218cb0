"""Distances to the nearest simplex ETF, and between frames.

Matrices (d, K) have classes as columns and are compared after division by their Frobenius norm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.frames import simplex_basis
from ddn_etf.metrics.statistics import as_matrix, of_unit_size
from ddn_etf.validation import check_floating, check_frame_size

__all__ = ["distance_to_nearest_etf", "nearest_simplex_etf", "squared_distance"]


@torch.no_grad()
def nearest_simplex_etf(matrix: Tensor) -> Tensor:
    """argmin_E ‖Y - E‖_F over the simplex ETFs E of unit Frobenius norm, Y = matrix/‖matrix‖_F.

    E = V Qᵀ/√(K-1) with V the orthogonal polar factor of Y Q, Q an orthonormal basis of the
    complement of 1; for d >= K the same as P M/√(K-1), P the polar factor of Y M.

    Args:
        matrix: (d, K), d >= K - 1: H̃ or Wᵀ.

    Returns:
        (d, K) float64; NaN where the nearest ETF is not unique, since Y M has rank below K - 1
        (singular values at most max(d, K) · eps · the largest one count as zero).

    Raises:
        FrameSizeError: K < 2 or d < K - 1.
        FeatureError: NaN or infinity.
    """
    frame, is_unique = _nearest(matrix)
    return torch.where(is_unique, frame, torch.nan)


@torch.no_grad()
def distance_to_nearest_etf(matrix: Tensor) -> Tensor:
    """min_E ‖Y - E‖_F² = 2 - 2‖Y M‖_*/√(K-1), the squared distance to the nearest simplex ETF.

    Args:
        matrix: (d, K), d >= K - 1: H̃ or Wᵀ. Y = matrix/‖matrix‖_F.

    Returns:
        () float64, in [0, 2], also where the nearest ETF is not unique; NaN for the zero matrix.

    Raises:
        FrameSizeError: K < 2 or d < K - 1.
        FeatureError: NaN or infinity.
    """
    # From the frame itself: the difference of nearly equal numbers in the formula costs digits.
    return squared_distance(matrix, _nearest(matrix)[0])


@torch.no_grad()
def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """‖A/‖A‖_F - B/‖B‖_F‖_F² of two frames (d, K).

    Returns:
        () float64, in [0, 4]; NaN where one of them is zero or NaN.

    Raises:
        ShapeError, DtypeError: not two floating-point matrices of one shape.
    """
    for name, frame in (("first", first), ("second", second)):
        check_floating(name, frame)
        if frame.ndim != 2 or frame.shape != first.shape:
            raise ShapeError(
                f"two frames (d, K) are compared, found {name} of shape {tuple(frame.shape)} and "
                f"first of shape {tuple(first.shape)}"
            )
    a, b = (of_unit_size(frame.detach().double()) for frame in (first, second))
    difference: Tensor = a / a.norm() - b / b.norm()
    return difference.square().sum()


def _nearest(matrix: Tensor) -> tuple[Tensor, Tensor]:
    Y = of_unit_size(as_matrix("matrix", matrix, (None, None)))
    d, K = Y.shape
    check_frame_size(K, d)
    Q = simplex_basis(K, dtype=Y.dtype, device=Y.device)
    U, sigma, Vh = torch.linalg.svd(Y @ Q, full_matrices=False)
    is_unique = sigma[-1] > max(d, K) * torch.finfo(Y.dtype).eps * sigma[0]
    return U @ Vh @ Q.mT / math.sqrt(K - 1), is_unique
