"""Simplex equiangular tight frames (ETF) in closed form.

K unit vectors whose pairwise cosines all equal -1/(K-1), the smallest value that K vectors can
share: the arrangement of class means and classifier at neural collapse (Papyan, Han and Donoho,
2020). M = I - 11ᵀ/K is the centring matrix and Q an orthonormal basis of the complement of the
vector of ones, so that M = Q Qᵀ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddn_etf.frames._rounding import round_once
from ddn_etf.frames.rotation import random_orthonormal
from ddn_etf.validation import check_count, check_frame_size, check_num_classes

__all__ = ["centering_matrix", "simplex_basis", "simplex_etf"]


def centering_matrix(
    num_classes: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """M = I - 11ᵀ/K, the orthogonal projection onto the complement of the vector of ones.

    Args:
        num_classes: K >= 1.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Returns:
        (K, K).

    Raises:
        TypeError: ``num_classes`` is not an integer, or ``dtype`` not a floating-point type.
        ValueError: ``num_classes`` is below 1.
    """
    check_count("num_classes", num_classes, 1)
    identity = torch.eye(num_classes, dtype=torch.float64, device="cpu")
    return round_once(identity - 1 / num_classes, dtype, device)


def simplex_basis(
    num_classes: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Q, an orthonormal basis of the complement of the vector of ones: Qᵀ Q = I, Q Qᵀ = M.

    Column j = 1, ..., K-1 is (1, ..., 1, -j, 0, ..., 0) / √(j(j+1)) with j leading ones (the
    contrasts of Helmert, 1876): a closed form, so that the same basis comes out on every machine.

    Args:
        num_classes: K >= 2.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Returns:
        (K, K - 1).

    Raises:
        TypeError: ``num_classes`` is not an integer, or ``dtype`` not a floating-point type.
        FrameSizeError: ``num_classes`` is below 2.
    """
    check_num_classes(num_classes)
    j = torch.arange(1, num_classes, dtype=torch.float64, device="cpu")
    leading_ones = j.new_ones(num_classes, num_classes - 1).triu()
    negative = torch.diag_embed(-j, offset=-1)[:, :-1]
    return round_once((leading_ones + negative) / (j * (j + 1)).sqrt(), dtype, device)


def simplex_etf(
    num_classes: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """K unit vectors in d dimensions with pairwise cosine -1/(K-1): W Wᵀ = K/(K-1) M.

    Without a generator the frame is canonical: √(K/(K-1)) M I_{K×d} for d >= K (the fixed
    classifier of Zhu et al., 2021), and √(K/(K-1)) Q for d = K - 1. With a generator it is
    √(K/(K-1)) Q Vᵀ with V drawn uniformly from the orthonormal d×(K-1) matrices.

    Args:
        num_classes: K >= 2.
        dim: d >= K - 1.
        generator: source of a random rotation.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Returns:
        (K, d); the rows are the frame.

    Raises:
        TypeError: a size is not an integer, or ``dtype`` not a floating-point type.
        FrameSizeError: K < 2 or d < K - 1.
    """
    check_frame_size(num_classes, dim)
    if generator is not None:
        V = random_orthonormal(dim, num_classes - 1, generator)
        frame = simplex_basis(num_classes, dtype=torch.float64, device="cpu") @ V.mT
    elif dim >= num_classes:
        M = centering_matrix(num_classes, dtype=torch.float64, device="cpu")
        frame = torch.nn.functional.pad(M, (0, dim - num_classes))
    else:
        frame = simplex_basis(num_classes, dtype=torch.float64, device="cpu")
    return round_once(frame * math.sqrt(num_classes / (num_classes - 1)), dtype, device)
