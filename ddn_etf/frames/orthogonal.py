"""Orthogonal frames: as many mutually orthogonal unit vectors as there are classes.

They are what class means and classifier become under the mean squared error without a bias (Tirer
and Bruna, "Extended Unconstrained Features Model for Exploring Deep Neural Collapse", 2022), and
after a ReLU, where a simplex ETF has no place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn_etf.errors import FrameSizeError
from ddn_etf.frames._rounding import round_once
from ddn_etf.frames.rotation import random_orthonormal
from ddn_etf.validation import check_count

__all__ = ["orthogonal_frame"]


def orthogonal_frame(
    num_classes: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """K orthonormal vectors in d dimensions: W Wᵀ = I.

    Without a generator they are the first K unit vectors, I_{K×d}; with one they are drawn
    uniformly.

    Args:
        num_classes: K >= 1.
        dim: d >= K.
        generator: source of a random rotation.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Returns:
        (K, d); the rows are the frame.

    Raises:
        TypeError: a size is not an integer, or ``dtype`` not a floating-point type.
        ValueError: K < 1.
        FrameSizeError: d < K.
    """
    check_count("num_classes", num_classes, 1)
    check_count("dim", dim, 0)
    if dim < num_classes:
        raise FrameSizeError(
            f"dim is {dim} for {num_classes} classes: at most {dim} vectors are mutually "
            f"orthogonal in {dim} dimensions; use dim >= {num_classes}, or a simplex ETF for "
            f"dim = {num_classes - 1}"
        )
    if generator is None:
        frame = torch.eye(num_classes, dim, dtype=torch.float64, device="cpu")
    else:
        frame = random_orthonormal(dim, num_classes, generator).mT
    return round_once(frame, dtype, device)
