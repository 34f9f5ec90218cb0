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
    if dtype is None:
        dtype = torch.get_default_dtype()
    if not isinstance(dtype, torch.dtype):
        raise DtypeError(f"dtype must be a dtype of torch such as torch.float32, found {dtype!r}")
    if not dtype.is_floating_point:
        raise DtypeError(f"dtype must be a floating-point type, found {dtype}")
    rounded = matrix.to(dtype=dtype)
    if not rounded.isfinite().all() or (matrix.any() and not rounded.any()):
        largest = matrix.abs().max().item()
        raise DtypeError(
            f"the largest entry, {largest:g}, is out of the range of {dtype}; use torch.float64, or "
            "divide the frame by its length"
        )
    return rounded.to(device=torch.get_default_device() if device is None else device)
