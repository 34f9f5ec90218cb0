"""When a gradient in closed form may stand in for what autograd records."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ddn.forward_mode import inside_transform

__all__ = ["is_left_to_autograd"]


def is_left_to_autograd(tensor: Tensor) -> bool:
    """Whether autograd alone will differentiate what is computed from ``tensor``.

    That is, neither a transform of ``torch.func`` nor forward mode nor the compiler looks on. They take
    the single operations; a function of autograd with a gradient of its own would be in their way.
    """
    return (
        tensor.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not inside_transform()
        and forward_ad._current_level < 0
    )
