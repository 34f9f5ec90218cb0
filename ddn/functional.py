"""Two functions of torch at the types the engine uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

__all__ = ["eager", "reverse"]

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
