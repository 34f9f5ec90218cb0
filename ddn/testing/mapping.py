"""Does a node treat the problems of a batch as if they were alone?"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.testing.subject import Subject, as_tuple, assert_close, generic_loss

__all__ = [
    "check_batch",
    "check_empty_batch",
    "check_noncontiguous",
    "check_shared_inputs",
    "check_vmap",
]


def check_batch(subject: Subject) -> str:
    """Values and gradients of a batch against one problem at a time."""
    batch = subject.stack()
    value, gradients = _value_and_gradients(subject, batch)
    singles = [_value_and_gradients(subject, _pick(batch, i)) for i in range(len(batch[0]))]
    error = assert_close(value, _stack([single[0] for single in singles]), "value")
    error = max(
        error, assert_close(gradients, _stack([single[1] for single in singles]), "gradient")
    )
    nested = tuple(x.unsqueeze(0) for x in batch)
    outer, _ = _value_and_gradients(subject, nested)
    error = max(error, assert_close(outer, tuple(v.unsqueeze(0) for v in value), "two batch dims"))
    return f"relative difference {error:.1e}"


def check_vmap(subject: Subject) -> str:
    """``torch.func.vmap`` of the node and of its gradient against a loop."""
    batch = subject.stack()
    loop = _stack([as_tuple(subject.node(*_pick(batch, i))) for i in range(len(batch[0]))])
    values = as_tuple(torch.func.vmap(subject.node)(*batch))
    error = assert_close(values, loop, "value")

    shapes = subject.core_shapes()

    def total(*inputs: Tensor) -> Tensor:
        return generic_loss(subject.node(*inputs), shapes)

    gradient = torch.func.grad(total, argnums=subject.differentiated)
    loop = _stack([gradient(*_pick(batch, i)) for i in range(len(batch[0]))])
    mapped = torch.func.vmap(gradient)(*batch)
    error = max(error, assert_close(mapped, loop, "gradient"))
    return f"relative difference {error:.1e}"


def check_shared_inputs(subject: Subject) -> str:
    """One tensor for all problems against the same tensor repeated."""
    batch = subject.stack()
    if len(batch) == 1:
        # With a single input, sharing it means expanding it.
        single = subject.single()[0]
        value, gradient = _value_and_gradients(subject, (single,))
        many, summed = _value_and_gradients(subject, (single,), expand=3)
        error = assert_close(many, tuple(torch.stack([v] * 3) for v in value), "value")
        error = max(error, assert_close(summed, tuple(3 * g for g in gradient), "gradient"))
        return f"relative difference {error:.1e}"
    error = 0.0
    for position in subject.differentiated:
        repeated, shared = list(batch), list(batch)
        shared[position] = subject.single()[position]
        repeated[position] = torch.stack([shared[position]] * len(batch[0]))
        value, gradients = _value_and_gradients(subject, tuple(repeated))
        same, summed = _value_and_gradients(subject, tuple(shared))
        where = subject.differentiated.index(position)
        error = max(error, assert_close(same, value, f"value, input {position} shared"))
        error = max(
            error,
            assert_close(
                summed[where], gradients[where].sum(0), f"gradient of shared input {position}"
            ),
        )
    return f"relative difference {error:.1e}"


def check_noncontiguous(subject: Subject) -> str:
    """Inputs with other strides against contiguous ones."""
    batch = subject.stack()
    strided = tuple(_noncontiguous(x) for x in batch)
    value, gradients = _value_and_gradients(subject, batch)
    same, same_gradients = _value_and_gradients(subject, strided)
    error = assert_close(same, value, "value")
    error = max(error, assert_close(same_gradients, gradients, "gradient"))
    return f"relative difference {error:.1e}"


def check_empty_batch(subject: Subject) -> str:
    """No problem: an empty solution and empty gradients of the right shapes."""
    empty = tuple(x[:0] for x in subject.stack())
    value, gradients = _value_and_gradients(subject, empty)
    expected, _ = _value_and_gradients(subject, subject.single())
    for block, single in zip(value, expected, strict=True):
        if block.shape != (0, *single.shape):
            raise AssertionError(f"shape {tuple(block.shape)} for {(0, *single.shape)}")
    for position, gradient in zip(subject.differentiated, gradients, strict=True):
        if gradient.shape != empty[position].shape:
            raise AssertionError(f"gradient of input {position} has shape {tuple(gradient.shape)}")
    return "shapes agree"


def _value_and_gradients(
    subject: Subject, inputs: tuple[Tensor, ...], expand: int | None = None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    variables = [
        x.detach().requires_grad_(i in subject.differentiated) for i, x in enumerate(inputs)
    ]
    arguments = variables if expand is None else [x.expand(expand, *x.shape) for x in variables]
    blocks = as_tuple(subject.node(*arguments))
    total = generic_loss(blocks, subject.core_shapes())
    wanted = [variables[i] for i in subject.differentiated]
    gradients = torch.autograd.grad(total, wanted, materialize_grads=True)
    return tuple(block.detach() for block in blocks), tuple(gradients)


def _pick(batch: tuple[Tensor, ...], index: int) -> tuple[Tensor, ...]:
    return tuple(x[index] for x in batch)


def _stack(results: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(parts) for parts in zip(*results, strict=True))


def _noncontiguous(x: Tensor) -> Tensor:
    padded = torch.stack([x, torch.full_like(x, torch.nan)], -1)
    return padded[..., 0]
