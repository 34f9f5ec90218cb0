"""From one problem to a batch: users write functions of one problem, the library maps them.

Every tensor keeps its own batch dimensions. Where it has none (or size 1) it is *shared*: the
mapped function sees the same tensor in every problem, and the gradient of a shared tensor is summed
over the batch by the reverse pass itself, without a copy per problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["align_mapped_dimensions", "broadcast_shapes", "expand_batch", "vectorize"]


def vectorize(
    function: Callable[..., Any], core_ranks: Sequence[int], tensors: Sequence[Tensor]
) -> Any:
    """Call ``function`` on every problem of the broadcast batch of ``tensors``.

    Args:
        function: of tensors without batch dimensions.
        core_ranks: number of core dimensions of each tensor.
        tensors: ``(*batch, *core)`` each, batch dimensions broadcasting as in NumPy.

    Returns:
        The results of ``function`` with the common batch dimensions in front.
    """
    ranks = [t.ndim - core for t, core in zip(tensors, core_ranks, strict=True)]
    common = broadcast_shapes([t.shape[:r] for t, r in zip(tensors, ranks, strict=True)])
    arguments = list(tensors)
    in_dims: list[list[int | None]] = [[None] * len(tensors) for _ in common]
    for position, (tensor, rank) in enumerate(zip(tensors, ranks, strict=True)):
        offset = len(common) - rank
        shared = []
        for axis in range(rank):
            if tensor.shape[axis] == common[offset + axis]:
                in_dims[offset + axis][position] = 0
            else:
                shared.append(axis)
        arguments[position] = tensor.squeeze(shared) if shared else tensor
    mapped = function
    for dims in reversed(in_dims):
        mapped = torch.func.vmap(mapped, in_dims=tuple(dims))
    return mapped(*arguments)


def broadcast_shapes(shapes: Sequence[torch.Size]) -> torch.Size:
    """``torch.broadcast_shapes``, fast in the usual case that all shapes agree or are empty."""
    different = {shape for shape in shapes if shape}
    if len(different) > 1:
        return torch.Size(torch.broadcast_shapes(*different))
    return different.pop() if different else torch.Size()


def expand_batch(tensor: Tensor, core_rank: int, batch_shape: torch.Size) -> Tensor:
    """A view of ``tensor`` with the whole batch shape, ``(*batch, *core)``."""
    core = tensor.shape[tensor.ndim - core_rank :]
    return tensor if tensor.shape == batch_shape + core else tensor.expand(*batch_shape, *core)


def align_mapped_dimensions(
    tensors: Sequence[Tensor], in_dims: Sequence[int | None], core_ranks: Sequence[int]
) -> list[Tensor]:
    """Move the dimension that ``vmap`` maps over to the front of the batch dimensions.

    A function that is batched by nature serves ``torch.func.vmap`` by taking the mapped dimension
    as one more batch dimension. Tensors of smaller batch rank get singleton dimensions behind it, so
    that broadcasting pairs it with itself.
    """
    ranks = [
        tensor.ndim - core - (dim is not None)
        for tensor, dim, core in zip(tensors, in_dims, core_ranks, strict=True)
    ]
    highest = max(ranks, default=0)
    aligned = []
    for tensor, dim, rank in zip(tensors, in_dims, ranks, strict=True):
        if dim is None:
            aligned.append(tensor)
            continue
        front = tensor.movedim(dim, 0)
        padding = (1,) * (highest - rank)
        aligned.append(front.reshape(front.shape[0], *padding, *front.shape[1:]))
    return aligned
