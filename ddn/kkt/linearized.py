"""Products with the transpose of a derivative, linearized once for many directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ddn.functional import needs_functional, reverse

__all__ = [
    "Linearized",
    "apply_matrix",
    "generic_direction",
    "largest",
    "random_signs",
]

# Directions are mapped at once as long as a copy of everything for each has at most this many numbers.
_CHUNK = 2**18
# A map over no more directions than this takes longer than one pass for each.
_FEW = 2


class Linearized:
    """v ↦ (∂F/∂z)ᵀ v at a point z, by reverse passes through F(z), which is evaluated once.

    Args:
        function: F, of one tensor or several; returns one ``(*batch, n)`` or a tuple of them.
        *point: z.
        size: how many numbers F works on. A map over directions may copy all of them (a matrix that is
            batched itself is expanded for a product with mapped vectors).

    Attributes:
        values: F(z).
    """

    def __init__(self, function: Callable[..., Any], *point: Tensor, size: int) -> None:
        values, self._pull_back = _reverse(function, *point)
        self._everything = range(len(point))
        self.values = tuple(value.detach() for value in values)
        self._chunk = _CHUNK // max(1, size)

    def __call__(self, *direction: Tensor) -> tuple[Tensor, ...]:
        """The product with v, shaped like F; leading dimensions that F lacks are further directions."""
        return self.pull_back(direction, self._everything)

    def maps_at_once(self, count: int) -> bool:
        """Whether so many directions are one map, without copies that are large."""
        return count <= self._chunk

    def pull_back(
        self, direction: Sequence[Tensor | None], wanted: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """The parts ``wanted`` of the product; None among the directions is zero."""
        given = [i for i, d in enumerate(direction) if d is not None]
        parts = [d for d in direction if d is not None]
        shapes = [self.values[i].shape for i in given]
        extra = parts[0].ndim - len(shapes[0])

        def pull_back(*flat: Tensor) -> tuple[Tensor, ...]:
            whole: list[Tensor | None] = [None] * len(direction)
            for i, part in zip(given, flat, strict=True):
                whole[i] = part
            return self._pull_back(whole, wanted)

        if extra <= 0:
            return pull_back(*(d.expand(shape) for d, shape in zip(parts, shapes, strict=True)))
        leading = parts[0].shape[:extra]
        count = leading.numel()
        flat = [
            d.expand(*leading, *shape).reshape(count, *shape)
            for d, shape in zip(parts, shapes, strict=True)
        ]
        if min(self._chunk, count) > _FEW:
            mapped = torch.func.vmap(pull_back, chunk_size=self._chunk)
            result: tuple[Tensor, ...] = mapped(*flat)
        elif count == 1:
            result = tuple(part.unsqueeze(0) for part in pull_back(*(d[0] for d in flat)))
        else:
            single = [pull_back(*parts) for parts in zip(*flat, strict=True)]
            result = tuple(torch.stack(parts) for parts in zip(*single, strict=True))
        return tuple(part.reshape(*leading, *part.shape[1:]) for part in result)


PullBack = Callable[[Sequence[Tensor | None], Sequence[int]], tuple[Tensor, ...]]


def _reverse(function: Callable[..., Any], *point: Tensor) -> tuple[tuple[Tensor, ...], PullBack]:
    """Values, and what pulls directions back; without a transform if none is at work."""
    if needs_functional(*point):
        return _transformed(function, *point)
    with torch.enable_grad():
        aliases = [tensor.detach().requires_grad_() for tensor in point]
        value = function(*aliases)
    values = value if isinstance(value, tuple) else (value,)

    def pull_back(direction: Sequence[Tensor | None], wanted: Sequence[int]) -> tuple[Tensor, ...]:
        moving = [
            index
            for index, (one, along) in enumerate(zip(values, direction, strict=True))
            if along is not None and one.requires_grad
        ]
        targets = [aliases[i] for i in wanted]
        if not moving:
            return tuple(map(torch.zeros_like, targets))
        return torch.autograd.grad(
            [values[index] for index in moving],
            targets,
            [direction[index] for index in moving],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )

    return values, pull_back


def _transformed(
    function: Callable[..., Any], *point: Tensor
) -> tuple[tuple[Tensor, ...], PullBack]:
    value, pullback = reverse(function, *point)
    values = value if isinstance(value, tuple) else (value,)

    def pull_back(direction: Sequence[Tensor | None], wanted: Sequence[int]) -> tuple[Tensor, ...]:
        whole = tuple(
            torch.zeros_like(one) if along is None else along
            for one, along in zip(values, direction, strict=True)
        )
        result = pullback(whole if isinstance(value, tuple) else whole[0])
        return tuple(result[i] for i in wanted)

    return values, pull_back


def apply_matrix(matrix: Tensor, vectors: Tensor) -> Tensor:
    """M v for M ``(*batch, k, m)`` and v ``(*extra, *batch, m)``, without a copy of M per vector."""
    extra = vectors.ndim - matrix.ndim + 1
    if extra <= 0:
        return (matrix @ vectors.unsqueeze(-1)).squeeze(-1)
    leading = vectors.shape[:extra]
    columns = vectors.reshape(leading.numel(), *vectors.shape[extra:]).movedim(0, -1)
    return (matrix @ columns).movedim(-1, 0).reshape(*leading, *matrix.shape[:-1])


def largest(vector: Tensor) -> Tensor:
    """‖·‖_∞ over the last dimension, zero if that is empty; without a copy where that would cost."""
    if vector.shape[-1] == 0:
        return vector.new_zeros(vector.shape[:-1])
    if vector.numel() < _CHUNK:
        return vector.abs().amax(-1)
    return torch.maximum(vector.amax(-1), -vector.amin(-1))


def random_signs(like: Tensor, count: int, seed: int = 0) -> Tensor:
    """Random signs, the same on every call and for every problem, ``(count, *like.shape)``."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (count, like.shape[-1]), generator=generator, dtype=torch.int8)
    signs = (2 * signs - 1).to(like.device, like.dtype)
    return signs.reshape(count, *(1,) * (like.ndim - 1), -1).expand(count, *like.shape)


def generic_direction(like: Tensor) -> Tensor:
    """Numbers in (1/2, 3/2) without any pattern, ``(m,)`` for ``(*batch, m)``.

    Fractional parts of multiples of the golden ratio, as overflow of integers: m may be large.
    """
    index = torch.arange(like.shape[-1], device=like.device, dtype=torch.int32)
    return index.mul_(-1640531527).to(like.dtype).mul_(2.0**-32).add_(1)
