"""Nodes that bring their own derivative.

A node that overrides ``vjp`` states v ↦ Jᵀ v in torch operations. Reverse mode of every order
differentiates those operations; forward mode needs J t, the transpose of a map that is linear in v, and
gets it by one more reverse pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from ddn.batching import align_mapped_dimensions
from ddn.forward_mode import own_memory, saved_primals
from ddn.functional import isolated, refuse_legacy_vmap, reverse

__all__ = ["ClosedForm", "ClosedFormNode"]


class ClosedFormNode(Protocol):
    """What the function needs to know of a node; tensors carry their batch dimensions."""

    core_ranks: tuple[int, ...]
    num_blocks: int
    name: str

    def solve(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Solution blocks, then tensors to be kept for ``pull_back``."""

    def pull_back(
        self,
        inputs: Sequence[Tensor],
        y: Sequence[Tensor],
        grad_y: Sequence[Tensor],
        saved: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Gradient for every input, of the input's own shape."""

    def as_solved(self) -> AbstractContextManager[None]:
        """The node with the attributes that it had when it was solved."""


class ClosedForm(torch.autograd.Function):
    """x ↦ solution blocks, and saved by-products that carry no derivative."""

    @staticmethod
    @isolated
    def forward(node: ClosedFormNode, *inputs: Tensor) -> tuple[Tensor, ...]:
        return own_memory(node.solve(inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.node, *tensors = inputs
        ctx.num_outputs = len(output)
        ctx.mark_non_differentiable(*output[ctx.node.num_blocks :])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors, *output)

    @staticmethod
    @isolated
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # what is recorded under the old vmap has no right derivative
            refuse_legacy_vmap(ctx.node.name, cotangents)
        inputs, y, saved = _unpack(ctx.node, ctx.saved_tensors)
        grad_y = [
            torch.zeros_like(block) if cotangent is None else cotangent
            for block, cotangent in zip(y, cotangents, strict=False)
        ]
        with ctx.node.as_solved():
            gradients = ctx.node.pull_back(inputs, y, grad_y, saved)
        return (None, *gradients)

    @staticmethod
    @isolated
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        with ctx.node.as_solved(), saved_primals(ctx) as tensors:
            inputs, y, saved = _unpack(ctx.node, tensors)
            moving = [i for i, tangent in enumerate(tangents) if tangent is not None]

            def pull_back(*grad_y: Tensor) -> tuple[Tensor, ...]:
                gradients = ctx.node.pull_back(inputs, y, grad_y, saved)
                return tuple(
                    torch.zeros_like(inputs[i]) if gradients[i] is None else gradients[i]
                    for i in moving
                )

            _, push_forward = reverse(pull_back, *(torch.zeros_like(block) for block in y))
            result = push_forward(tuple(tangents[i] for i in moving))
        return (*result, *(None,) * (ctx.num_outputs - len(y)))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], node: ClosedFormNode, *inputs: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        aligned = align_mapped_dimensions(inputs, in_dims[1:], node.core_ranks)
        outputs = ClosedForm.apply(node, *aligned)
        return outputs, (0,) * len(outputs)


def _unpack(
    node: ClosedFormNode, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    num_inputs = len(node.core_ranks)
    num_solution = num_inputs + node.num_blocks
    return tensors[:num_inputs], tensors[num_inputs:num_solution], tensors[num_solution:]
