"""Forward mode inside a custom ``autograd.Function``, exact at every order.

PyTorch calls the ``jvp`` of a custom function with forward-mode differentiation switched off, so
that what is computed there is a constant to every enclosing forward-mode level: ``jacfwd(jacfwd(f))``
comes out wrong without a word. Switching it on again inside ``jvp``, after the tangents of the
*current* level have been taken off the saved tensors, keeps the enclosing levels and makes all orders
right.

Directional derivatives inside the engine are a reverse pass of a reverse pass, never
``torch.func.jvp``: nested forward mode is not supported by PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ddn.functional import reverse

__all__ = [
    "directional_derivative",
    "inside_transform",
    "is_differentiated",
    "own_memory",
    "saved_primals",
]


@contextmanager
def saved_primals(ctx: Any) -> Iterator[tuple[Tensor, ...]]:
    """The saved tensors of ``ctx`` for use in ``jvp``, without the tangents of the current level."""
    with forward_ad._set_fwd_grad_enabled(True):
        yield tuple(forward_ad.unpack_dual(tensor).primal for tensor in ctx.saved_tensors)


def directional_derivative(
    function: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Tensor]
) -> Any:
    """J t for the Jacobian J of ``function`` at ``primals``: the transpose of the map v ↦ Jᵀ v."""
    value, pullback = reverse(function, *primals)
    zeros = torch.utils._pytree.tree_map(torch.zeros_like, value)
    _, pushforward = reverse(pullback, zeros)
    return pushforward(tuple(tangents))[0]


def own_memory(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors, with views replaced by copies: forward mode refuses outputs that are views."""
    return tuple(tensor.clone() if tensor._is_view() else tensor for tensor in tensors)


def is_differentiated() -> bool:
    """Whether a derivative of what is computed now may be taken, in any mode.

    If not, formulas that are right in value alone may be used.
    """
    return torch.is_grad_enabled() or forward_ad._current_level >= 0 or inside_transform()


def inside_transform() -> bool:
    """Whether a transform of ``torch.func`` (``vmap``, ``grad``, ...) is running."""
    return bool(torch._C._are_functorch_transforms_active())
