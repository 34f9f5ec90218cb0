"""What heads do with their buffers, and what every training step does in the least time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["at_least_single", "full_precision", "keep_single", "replace_buffers"]


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """float32, or the dtype itself if it is wider."""
    return torch.promote_types(dtype, torch.float32)


def keep_single(before: Tensor, after: Tensor) -> Tensor:
    """A buffer that ``module.to(dtype)`` and its like have converted, but not below float32.

    For sums over many batches, which a narrow dtype would round in every step, and which training
    goes on from a checkpoint with.
    """
    dtype = at_least_single(after.dtype)
    return after if after.dtype == dtype else before.to(device=after.device, dtype=dtype)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """A context without autocast."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def replace_buffers(module: nn.Module, **buffers: Tensor) -> None:
    """Put new tensors in the place of registered buffers.

    The same as assigning them as attributes, without the search for parameters and modules of that
    name, which takes longer than a small computation.
    """
    assert buffers.keys() <= module._buffers.keys()
    module._buffers.update(buffers)
