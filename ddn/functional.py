"""Two functions of torch at the types the engine uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["apply_eagerly", "reverse"]


def reverse(
    function: Callable[..., Any], *primals: Tensor
) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """The value of ``function`` at ``primals`` and v ↦ Jᵀ v, which returns one gradient per primal."""
    return cast("tuple[Any, Callable[..., tuple[Any, ...]]]", torch.func.vjp(function, *primals))


def apply_eagerly(function: type[torch.autograd.Function], *arguments: Any) -> tuple[Tensor, ...]:
    """``function.apply``, outside of graphs that ``torch.compile`` captures.

    The compiler does not trace custom functions that have a ``jvp``: it breaks the graph here.
    """
    return cast("tuple[Tensor, ...]", _apply(function, *arguments))


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    return function.apply(*arguments)


_apply = torch.compiler.disable(_apply)
