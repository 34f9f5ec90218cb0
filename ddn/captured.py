"""Parameters, buffers and plain attributes of a node: what its problem depends on besides the inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd import forward_ad

__all__ = ["MethodCaller", "PlainAttributes", "captured_tensors", "is_same"]

_PLAIN = (bool, int, float, str, type(None))


def captured_tensors(node: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a node (and its submodules) by name."""
    if next(node.children(), None) is None:
        own: dict[str, Tensor] = {}
        for name, value in (*node._parameters.items(), *node._buffers.items()):
            # One tensor under two names is one operand.
            if value is not None and not any(value is other for other in own.values()):
                own[name] = value
        return own
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


@dataclass(frozen=True)
class PlainAttributes:
    """Numbers, truth values and strings that a node and its submodules held at some time.

    Attributes:
        values: by module.
    """

    values: tuple[tuple[nn.Module, dict[str, Any]], ...]

    @classmethod
    def of(cls, node: nn.Module) -> PlainAttributes:
        """What is held now."""
        leaf = next(node.children(), None) is None
        return cls(tuple((m, _plain(m)) for m in ((node,) if leaf else node.modules())))

    @contextmanager
    def held(self) -> Iterator[None]:
        """As it was then: a derivative is that of the problem that was solved, not of what it became."""
        changed = [(m, then, now) for m, then in self.values if (now := _plain(m)) != then]
        for module, then, _ in changed:
            module.__dict__.update(then)
        try:
            yield
        finally:
            for module, _, now in changed:
                module.__dict__.update(now)


def _plain(module: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in module.__dict__.items()
        if type(value) in _PLAIN and name != "training" and not name.startswith("_")
    }


class MethodCaller(nn.Module):
    """Lets ``torch.func.functional_call`` reach any method of a node, not only ``forward``."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.node = node

    def forward(self, name: str, *arguments: Any) -> Any:
        """Call the method of that name."""
        return getattr(self.node, name)(*arguments)
