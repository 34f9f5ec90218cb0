"""Products with the transpose of a derivative, linearized once for many directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddn.functional import reverse

__all__ = ["Linearized", "apply_matrix", "random_signs"]

# Directions are mapped at once as long as a copy of everything for each has at most this many numbers.
_CHUNK = 2**18


class Linearized:
    """v ↦ (∂F/∂z)ᵀ v at a point z, by reverse passes through F(z), which is evaluated once.

    Args:
        function: F, of one tensor or several; returns one ``(*batch, n)`` or a tuple of them.
        *point: z.
        size: how many numbers F works on. A map over directions may copy all of them (a matrix that is
            batched itself is expanded for a product with mapped vectors).
    """

    def __init__(self, function: Callable[..., Any], *point: Tensor, size: int) -> None:
        value, self._pullback = reverse(function, *point)
        values = value if isinstance(value, tuple) else (value,)
        self._shapes = [tensor.shape for tensor in values]
        self._chunk = _CHUNK // max(1, size)

    def __call__(self, *direction: Tensor) -> tuple[Tensor, ...]:
        """The product with v, shaped like F; leading dimensions that F lacks are further directions."""
        extra = direction[0].ndim - len(self._shapes[0])

        def pull_back(*direction: Tensor) -> tuple[Tensor, ...]:
            return self._pullback(direction[0] if len(direction) == 1 else direction)

        if extra <= 0:
            return pull_back(
                *(d.expand(shape) for d, shape in zip(direction, self._shapes, strict=True))
            )
        leading = direction[0].shape[:extra]
        flat = [
            d.expand(*leading, *shape).reshape(-1, *shape)
            for d, shape in zip(direction, self._shapes, strict=True)
        ]
        if self._chunk > 1:
            mapped = torch.func.vmap(pull_back, chunk_size=self._chunk)
            result: tuple[Tensor, ...] = mapped(*flat)
        else:
            single = [pull_back(*parts) for parts in zip(*flat, strict=True)]
            result = tuple(torch.stack(parts) for parts in zip(*single, strict=True))
        return tuple(part.reshape(*leading, *part.shape[1:]) for part in result)


def apply_matrix(matrix: Tensor, vectors: Tensor) -> Tensor:
    """M v for M ``(*batch, k, m)`` and v ``(*extra, *batch, m)``, without a copy of M per vector."""
    extra = vectors.ndim - matrix.ndim + 1
    if extra <= 0:
        return (matrix @ vectors.unsqueeze(-1)).squeeze(-1)
    leading = vectors.shape[:extra]
    columns = vectors.reshape(-1, *vectors.shape[extra:]).movedim(0, -1)
    return (matrix @ columns).movedim(-1, 0).reshape(*leading, *matrix.shape[:-1])


def random_signs(like: Tensor, count: int) -> Tensor:
    """Random signs, the same on every call and for every problem, ``(count, *like.shape)``."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (count, like.shape[-1]), generator=generator, dtype=torch.int8)
    signs = (2 * signs - 1).to(like.device, like.dtype)
    return signs.reshape(count, *(1,) * (like.ndim - 1), -1).expand(count, *like.shape)
