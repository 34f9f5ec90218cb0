"""Parameters and buffers of a node: what its problem depends on besides the inputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd import forward_ad

__all__ = ["MethodCaller", "captured_tensors", "is_same"]


def captured_tensors(node: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a node (and its submodules) by name."""
    if next(node.children(), None) is None:
        own = {**node._parameters, **node._buffers}
        return {name: value for name, value in own.items() if value is not None}
    return {**dict(node.named_parameters()), **dict(node.named_buffers())}


def is_same(operand: Tensor, held: Tensor) -> bool:
    """Whether the node holds just this tensor, or a constant with the same memory."""
    if operand is held:
        return True
    # A tensor that no transform has wrapped is a constant to all of them.
    if (
        forward_ad._current_level >= 0
        or operand.requires_grad
        or held.requires_grad
        or _functorch.is_functorch_wrapped_tensor(operand)
        or _functorch.is_functorch_wrapped_tensor(held)
    ):
        return False
    return (
        operand.data_ptr() == held.data_ptr()
        and operand.shape == held.shape
        and operand.stride() == held.stride()
        and operand.dtype == held.dtype
    )


class MethodCaller(nn.Module):
    """Lets ``torch.func.functional_call`` reach any method of a node, not only ``forward``."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.node = node

    def forward(self, name: str, *arguments: Any) -> Any:
        """Call the method of that name."""
        return getattr(self.node, name)(*arguments)
