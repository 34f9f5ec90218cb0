"""Where the engine meets the rest of torch: reverse passes, the compiler, autocast and hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._C import _autograd, _functorch
from torch.autograd import forward_ad

from ddn.errors import DerivativeError

__all__ = [
    "eager",
    "gradient",
    "is_last_backward",
    "is_transformed",
    "isolated",
    "needs_functional",
    "refuse_legacy_vmap",
    "reverse",
    "will_be_differentiated",
]

Function = TypeVar("Function", bound=Callable[..., Any])

_REASON = (
    "solution() and certificate() of a declarative node, nodes made inside the compiled function, and nodes "
    "under forward mode or transforms of torch.func run outside of graphs, see ddn.compiled"
)


def reverse(
    function: Callable[..., Any], *primals: Tensor
) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """The value of ``function`` at ``primals`` and v ↦ Jᵀ v, which returns one gradient per primal."""
    return cast("tuple[Any, Callable[..., tuple[Any, ...]]]", torch.func.vjp(function, *primals))


def gradient(function: Callable[..., Tensor], *primals: Tensor) -> tuple[Tensor, ...]:
    """Gradients of a scalar ``function`` at ``primals``, differentiable wherever a derivative is taken.

    ``torch.func.grad``, or, where no transform, forward mode or inference mode is at work,
    ``torch.autograd.grad``, which has half of its overhead.
    """
    create_graph = torch.is_grad_enabled()
    if (
        needs_functional(*primals)
        # The graph of a gradient would lead to the aliases of constants, too.
        or (create_graph and not all(primal.requires_grad for primal in primals))
    ):
        return cast(
            "tuple[Tensor, ...]",
            torch.func.grad(function, argnums=tuple(range(len(primals))))(*primals),
        )
    with torch.enable_grad():
        # Aliases: what else depends on a primal is none of the function's business.
        aliases = [
            p.view_as(p) if p.requires_grad else p.detach().requires_grad_() for p in primals
        ]
        value = function(*aliases)
        if not value.requires_grad:
            return tuple(torch.zeros_like(primal) for primal in primals)
        return torch.autograd.grad(
            value, aliases, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )


def is_transformed(*tensors: Tensor) -> bool:
    """Whether a transform of ``torch.func``, or forward mode, may see what is done with the tensors.

    Also where autograd is switched off and does not say so: in a custom function that a transform calls
    inside of inference mode.
    """
    return (
        forward_ad._current_level >= 0
        or torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.AutogradOther)
        or bool(torch._C._are_functorch_transforms_active())
        or any(map(_functorch.is_functorch_wrapped_tensor, tensors))
    )


def needs_functional(*tensors: Tensor) -> bool:
    """Whether derivatives are to be taken by ``torch.func``: under transforms and in inference mode."""
    return (
        is_transformed(*tensors)
        or torch.is_inference_mode_enabled()
        or any(tensor.is_inference() for tensor in tensors)
    )


def is_last_backward() -> bool:
    """Whether the backward pass that is running frees the graph behind it (``retain_graph=False``)."""
    keeps = getattr(_autograd, "_get_current_graph_task_keep_graph", None)
    return keeps is not None and not keeps()


def will_be_differentiated(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Positions of tensors for which autograd will ask a gradient, and wants what is kept for it now.

    None under hooks on saved tensors: they decide what is kept (activation checkpointing keeps nothing).
    """
    hooked = _autograd._top_saved_tensors_default_hooks(False) is not None
    if hooked or not torch.is_grad_enabled():
        return ()
    return tuple(i for i, tensor in enumerate(tensors) if tensor.requires_grad)


def refuse_legacy_vmap(name: str, cotangents: Sequence[Tensor | None]) -> None:
    """Raise under ``is_grads_batched=True``, whose old vmap does not see into custom functions.

    Args:
        name: of the node.
        cotangents: that a backward pass was given.
    """
    if any(value is not None and _functorch.is_legacy_batchedtensor(value) for value in cotangents):
        raise DerivativeError(
            f"{name}: is_grads_batched=True, and vectorize=True of torch.autograd.functional, map by an old "
            "vmap that custom functions cannot follow. Use torch.func.jacrev, or torch.func.vmap over "
            "torch.func.vjp."
        )


def eager(function: Function) -> Function:
    """Keep ``function`` out of the graphs of ``torch.compile``: it breaks the graph here.

    The compiler does not trace custom differentiable functions that have a ``jvp``.
    """
    return cast("Function", torch.compiler.disable(function, reason=_REASON))


def isolated(function: Function) -> Function:
    """Let ``function`` see neither the compiler, nor autocast, nor hooks on saved tensors.

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

    # Functions of autograd ask for it in every call.
    wrapped.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return eager(cast("Function", wrapped))


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
