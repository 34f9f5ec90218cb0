"""Two things that every training step of a head does, in the least time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["full_precision", "replace_buffers"]


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
