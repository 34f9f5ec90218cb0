"""Nodes inside the graphs of ``torch.compile``: two operators that the compiler does not look into.

What a node does depends on its data: it iterates until it has converged, verifies what it has
found, and raises
errors that list the problems that failed. None of that is a graph. So, to the compiler, a node is
one operator,
``ddn::solve``, and its derivative another, ``ddn::pull_back``; when the graph runs, they call the machinery
that runs without a compiler, with all its checks. The compiler sees operands and shapes and nothing else of a
node: its functions are called with ordinary tensors only.

Which node is meant is an input of the graph, a number. What the solve keeps for the derivative (multipliers,
active set, factorizations) has sizes that only the node's functions know. So the operators hand
on a ticket for
it: a tensor whose memory owns what was kept. Where only a copy of that memory is left (it was
moved to another device, say), the problem is solved again.

Second derivatives of compiled graphs do not exist in torch. Transforms of ``torch.func`` and forward mode
*inside* a compiled function break the graph at the node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ddn.binding import bind
from ddn.captured import captured_tensors
from ddn.forward_mode import inside_transform
from ddn.node_functions import guard_parameters
from ddn.passes import pull_back_pass, solve_pass
from ddn.registry import find, issue, redeem
from ddn.signature import Signature

if TYPE_CHECKING:
    from ddn.node import DeclarativeNode

__all__ = ["break_graph_at_change", "is_traced", "solve_in_graph"]

Result = TypeVar("Result")

# -- the operators ----------------------------------------------------------------------------------


@torch.library.custom_op(
    "ddn::solve",
    mutates_args=(),
    schema=(
        "(Tensor node, Tensor[] inputs, Tensor[] captured, str signature, str dimensions, "
        "bool differentiated, bool trained) -> Tensor[]"
    ),
)
def _solve(
    identity: Tensor,
    inputs: Sequence[Tensor],
    captured: Sequence[Tensor],
    signature: str,
    dimensions: str,
    differentiated: bool,
    trained: bool,
) -> list[Tensor]:
    """Solution blocks, then the ticket."""
    with _ordinary():
        inputs, captured = _usable(inputs), _usable(captured)
        node = find(identity)

        def run() -> list[Tensor]:
            bound = bind(node, Signature.parse(node.signature), inputs)
            if trained and node.uses_closed_form:
                trainable = [t.detach().requires_grad_(t.is_floating_point()) for t in captured]
                guard_parameters(bound.problem, [*inputs, *trainable])
            blocks, kept = solve_pass(bound, differentiated)
            operands = [*inputs, *captured]
            own = _own_memory(kept, operands) if differentiated else []
            results = _own_memory([block.to(bound.dtype) for block in blocks], [*operands, *own])
            return [*results, issue(node, tuple(own))]

        return _holding(node, captured, run)


@_solve.register_fake
def _(
    identity: Tensor,
    inputs: Sequence[Tensor],
    captured: Sequence[Tensor],
    signature: str,
    dimensions: str,
    differentiated: bool,
    trained: bool,
) -> list[Tensor]:
    parsed = Signature.parse(signature)
    sizes = (dimension.split("=") for dimension in dimensions.split())
    binding = parsed.bind(inputs, {name: int(size) for name, size in sizes})
    dtype = inputs[0].dtype
    for value in inputs:
        dtype = torch.promote_types(dtype, value.dtype)
    blocks = [
        inputs[0].new_empty((*binding.batch_shape, *shape), dtype=dtype)
        for shape in parsed.output_shapes(binding.sizes)
    ]
    return [*blocks, torch.empty(1, dtype=torch.int64, device="cpu")]


@torch.library.custom_op(
    "ddn::pull_back",
    mutates_args=(),
    schema=(
        "(Tensor node, Tensor ticket, Tensor[] cotangents, Tensor[] inputs, Tensor[] captured, "
        "int[] needed) -> Tensor[]"
    ),
)
def _pull_back(
    identity: Tensor,
    ticket: Tensor,
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    captured: Sequence[Tensor],
    needed: Sequence[int],
) -> list[Tensor]:
    """Gradients of the operands ``needed``, the inputs followed by the captured tensors."""
    with _ordinary():
        inputs, captured, cotangents = _usable(inputs), _usable(captured), _usable(cotangents)
        node, attributes, kept = redeem(identity, ticket)
        operands = [*inputs, *captured]

        def run() -> list[Tensor]:
            bound = bind(node, Signature.parse(node.signature), inputs)
            found = solve_pass(bound, False)[1] if kept is None else kept
            gradients = pull_back_pass(bound, found, cotangents, needed)
            results = []
            for position in needed:
                gradient, operand = gradients[position], operands[position]
                results.append(
                    torch.zeros_like(operand) if gradient is None else gradient.to(operand.dtype)
                )
            return _own_memory(results, [*operands, *cotangents, *found])

        with attributes.held():
            return _holding(node, captured, run)


@_pull_back.register_fake
def _(
    identity: Tensor,
    ticket: Tensor,
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    captured: Sequence[Tensor],
    needed: Sequence[int],
) -> list[Tensor]:
    operands = [*inputs, *captured]
    return [operands[i].new_empty(operands[i].shape) for i in needed]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    identity, operands, captured, *_ = inputs
    ctx.num_inputs = len(operands)
    ctx.save_for_backward(identity, output[-1], *operands, *captured)


def _backward(ctx: Any, cotangents: Sequence[Tensor]) -> tuple[Any, ...]:
    identity, ticket, *operands = ctx.saved_tensors
    inputs, captured = operands[: ctx.num_inputs], operands[ctx.num_inputs :]
    wanted = [*ctx.needs_input_grad[1], *ctx.needs_input_grad[2]]
    needed = [position for position, want in enumerate(wanted) if want]
    found = _pull_back(identity, ticket, list(cotangents[:-1]), inputs, captured, needed)
    gradients: list[Tensor | None] = [None] * len(operands)
    for position, gradient in zip(needed, found, strict=True):
        gradients[position] = gradient
    own, theirs = gradients[: ctx.num_inputs], gradients[ctx.num_inputs :]
    return (None, own, theirs, None, None, None, None)


_solve.register_autograd(_backward, setup_context=_setup_context)


# -- in the graph -----------------------------------------------------------------------------------


def break_graph_at_change(node: DeclarativeNode, name: str) -> None:
    """Let the compiler see that an attribute of a node changes.

    Inside a graph it would be written when the graph has run, and the node would be called with the old
    value.
    """
    if torch.compiler.is_compiling():
        torch._dynamo.graph_break(
            msg=f"{name} of {type(node).__name__} is set inside the compiled function"
        )


def is_traced() -> bool:
    """Whether the compiler is reading, and a node is to be an operator of its graph."""
    return (
        torch.compiler.is_compiling() and not inside_transform() and forward_ad._current_level < 0
    )


def solve_in_graph(node: DeclarativeNode, inputs: Sequence[Tensor]) -> Any:
    """The solution as the result of the operator; one tensor, or a tuple of blocks."""
    if not all(isinstance(value, Tensor) for value in inputs):
        return node._solve_outside(*inputs)
    captured = list(captured_tensors(node).values())
    *blocks, _ = _solve(
        node._identity,
        list(inputs),
        captured,
        node.signature,
        " ".join(f"{name}={size}" for name, size in node.dimensions.items()),
        torch.is_grad_enabled(),
        any(tensor.requires_grad for tensor in captured),
    )
    return blocks[0] if len(blocks) == 1 else tuple(blocks)


# -- when the graph runs ----------------------------------------------------------------------------


@contextmanager
def _ordinary() -> Iterator[None]:
    """Autograd and transforms at work as outside of operators, and no autocast."""
    with torch.inference_mode(False), torch._C._ForceDispatchKeyGuard(*_ordinary_keys()):
        yield


@cache
def _ordinary_keys() -> tuple[Any, Any]:
    """The dispatch keys that a new thread starts with."""
    found: list[Any] = []

    def look() -> None:
        found.append(torch._C._dispatch_tls_local_include_set())
        found.append(torch._C._dispatch_tls_local_exclude_set())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    include, exclude = found
    return include, exclude


def _usable(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors that autograd accepts."""
    return [tensor.clone() if tensor.is_inference() else tensor for tensor in tensors]


def _own_memory(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """The tensors contiguous, none of them in the memory of another, or of ``others``.

    The compiler reuses memory: what it owns must not be kept, nor what is kept be handed to it.
    """
    taken = {tensor.untyped_storage().data_ptr() for tensor in others}
    result = []
    for tensor in tensors:
        own = tensor.detach().contiguous()
        if own.untyped_storage().data_ptr() in taken:
            own = own.clone()
        taken.add(own.untyped_storage().data_ptr())
        result.append(own)
    return result


def _holding(
    node: DeclarativeNode, captured: Sequence[Tensor], function: Callable[[], Result]
) -> Result:
    """``function()`` while the parameters and buffers of ``node`` are the tensors of the graph."""
    own = captured_tensors(node)
    if all(_same(a, b) for a, b in zip(own.values(), captured, strict=True)):
        return function()
    state = {f"node.{name}": tensor for name, tensor in zip(own, captured, strict=True)}
    result: Result = torch.func.functional_call(_Holder(node, function), state, ())
    return result


def _same(first: Tensor, second: Tensor) -> bool:
    return (
        first.data_ptr() == second.data_ptr()
        and first.shape == second.shape
        and first.stride() == second.stride()
        and first.dtype == second.dtype
        and first.device == second.device
    )


class _Holder(nn.Module):
    """Lets ``torch.func.functional_call`` exchange the tensors of a node."""

    def __init__(self, node: nn.Module, function: Callable[[], Any]) -> None:
        super().__init__()
        self.node = node
        self.function = function

    def forward(self) -> Any:
        return self.function()
