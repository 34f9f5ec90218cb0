"""Frames are computed in float64 on the host and rounded once."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.errors import DtypeError

__all__ = ["round_once"]


def round_once(
    matrix: Tensor, dtype: torch.dtype | None, device: torch.device | str | None
) -> Tensor:
    """Rounded once, from float64 on the host, so that every device gets the same numbers."""
    dtype = dtype or torch.get_default_dtype()
    if not dtype.is_floating_point:
        raise DtypeError(f"dtype must be a floating-point type, found {dtype}")
    return matrix.to(dtype=dtype).to(device=device or torch.get_default_device())
