"""What heads do with their buffers, and what every training step does in the least time."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd import forward_ad

from ddn.errors import DerivativeError

__all__ = [
    "HostCopy",
    "at_least_single",
    "full_precision",
    "keep_single",
    "refuse_vmap",
    "replace_buffers",
]


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
    """Put new tensors, which carry no derivative, in the place of registered buffers.

    The same as assigning them as attributes, without the search for parameters and modules of that
    name, which takes longer than a small computation. They outlive the transform of ``torch.func`` and
    the inference mode that they were computed in.
    """
    assert buffers.keys() <= module._buffers.keys()
    module._buffers.update({name: _constant(tensor) for name, tensor in buffers.items()})


def refuse_vmap(*tensors: Tensor) -> None:
    """Raise if one of the tensors stands for several, mapped by ``torch.vmap``: of which to keep?

    Raises:
        DerivativeError: it does.
    """
    if torch.compiler.is_compiling():
        return
    for tensor in tensors:
        if _functorch.is_batchedtensor(_without_gradient_levels(tensor)):
            raise DerivativeError(
                "a training step is mapped over several batches by torch.vmap: each would leave other "
                "class means behind. Map over heads in evaluation mode, or loop over the batches"
            )


def _constant(tensor: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return tensor
    if forward_ad._current_level >= 0:
        tensor = forward_ad.unpack_dual(tensor).primal
    tensor = _without_gradient_levels(tensor)
    if tensor.is_inference():
        with torch.inference_mode(False):
            return tensor.clone()
    return tensor


def _without_gradient_levels(tensor: Tensor) -> Tensor:
    while _functorch.is_gradtrackingtensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor


class HostCopy:
    """The value of an integer or logical buffer, known to the host without waiting for the device.

    It is read again when the buffer is another tensor, or somebody has written to it: a broadcast from
    another process, an average of models.
    """

    def __init__(self, value: int, buffer: Tensor) -> None:
        self.write(value, buffer)

    def write(self, value: int, buffer: Tensor) -> None:
        """Note what was put into the buffer."""
        self._value, self._buffer, self._version = int(value), buffer, _version(buffer)

    def read(self, buffer: Tensor) -> int:
        """The value now."""
        if torch.compiler.is_compiling():
            # The compiler follows no versions. Zero is what a state starts with, and is not trusted.
            return self._value or int(buffer)
        if buffer is not self._buffer or _version(buffer) != self._version:
            self.write(int(buffer), buffer)
        return self._value


def _version(buffer: Tensor) -> int:
    return -1 if buffer.is_inference() else buffer._version
