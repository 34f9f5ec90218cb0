"""Where the engine meets the rest of torch: reverse passes, the compiler, autocast and hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._C import _autograd

__all__ = ["eager", "isolated", "reverse"]

Function = TypeVar("Function", bound=Callable[..., Any])


def reverse(
    function: Callable[..., Any], *primals: Tensor
) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """The value of ``function`` at ``primals`` and v ↦ Jᵀ v, which returns one gradient per primal."""
    return cast("tuple[Any, Callable[..., tuple[Any, ...]]]", torch.func.vjp(function, *primals))


def eager(function: Function) -> Function:
    """Keep ``function`` out of the graphs of ``torch.compile``: it breaks the graph here.

    The compiler does not trace custom differentiable functions that have a ``jvp``.
    """
    return cast("Function", torch.compiler.disable(function))


def isolated(function: Function) -> Function:
    """Let ``function`` see neither autocast nor hooks on saved tensors.

    Optimality conditions do not survive sixteen bits, and ``torch.func`` refuses to run under hooks
    (activation checkpointing sets them). Nothing that is computed inside is saved for a backward pass,
    except by the engine's own functions.
    """

    @wraps(function)
    def wrapped(*arguments: Any) -> Any:
        tensors = (argument for argument in arguments if isinstance(argument, Tensor))
        device = next(tensors, torch.empty(0)).device.type
        with _without_hooks():
            if not torch.is_autocast_enabled(device):
                return function(*arguments)
            with torch.autocast(device, enabled=False):
                return function(*arguments)

    return cast("Function", wrapped)


@contextmanager
def _without_hooks() -> Iterator[None]:
    hooks = []
    while (pair := _autograd._top_saved_tensors_default_hooks(False)) is not None:
        hooks.append(pair)
        _autograd._pop_saved_tensors_default_hooks()
    try:
        yield
    finally:
        for pack, unpack in reversed(hooks):
            _autograd._push_saved_tensors_default_hooks(pack, unpack)
