"""Products with the transpose of a derivative, linearized once for many directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ddn.functional import reverse

__all__ = [
    "Linearized",
    "apply_matrix",
    "generic_direction",
    "is_transformed",
    "largest",
    "random_signs",
]

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
        value, self._pullback = _reverse(function, *point)
        self._shapes = [tensor.shape for tensor in value]
        self._chunk = _CHUNK // max(1, size)

    def __call__(self, *direction: Tensor) -> tuple[Tensor, ...]:
        """The product with v, shaped like F; leading dimensions that F lacks are further directions."""
        extra = direction[0].ndim - len(self._shapes[0])
        pull_back = self._pullback
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
        elif len(flat[0]) == 1:
            result = tuple(part.unsqueeze(0) for part in pull_back(*(d[0] for d in flat)))
        else:
            single = [pull_back(*parts) for parts in zip(*flat, strict=True)]
            result = tuple(torch.stack(parts) for parts in zip(*single, strict=True))
        return tuple(part.reshape(*leading, *part.shape[1:]) for part in result)


def _reverse(
    function: Callable[..., Any], *point: Tensor
) -> tuple[tuple[Tensor, ...], Callable[..., tuple[Tensor, ...]]]:
    """Values, and what pulls one direction for each of them back; without a transform if none is at work."""
    if is_transformed(*point):
        value, pullback = reverse(function, *point)
        if isinstance(value, tuple):
            return value, lambda *direction: pullback(direction)
        return (value,), pullback
    with torch.enable_grad():
        aliases = [tensor.detach().requires_grad_() for tensor in point]
        value = function(*aliases)
    values = value if isinstance(value, tuple) else (value,)
    moving = [index for index, one in enumerate(values) if one.requires_grad]

    def pull_back(*direction: Tensor) -> tuple[Tensor, ...]:
        if not moving:
            return tuple(map(torch.zeros_like, aliases))
        return torch.autograd.grad(
            [values[index] for index in moving],
            aliases,
            [direction[index] for index in moving],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )

    return values, pull_back


def is_transformed(*tensors: Tensor) -> bool:
    """Whether a transform of ``torch.func``, forward mode or inference mode is at work."""
    return (
        forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or torch.is_inference_mode_enabled()
        or any(tensor.is_inference() for tensor in tensors)
    )


def apply_matrix(matrix: Tensor, vectors: Tensor) -> Tensor:
    """M v for M ``(*batch, k, m)`` and v ``(*extra, *batch, m)``, without a copy of M per vector."""
    extra = vectors.ndim - matrix.ndim + 1
    if extra <= 0:
        return (matrix @ vectors.unsqueeze(-1)).squeeze(-1)
    leading = vectors.shape[:extra]
    columns = vectors.reshape(leading.numel(), *vectors.shape[extra:]).movedim(0, -1)
    return (matrix @ columns).movedim(-1, 0).reshape(*leading, *matrix.shape[:-1])


def largest(vector: Tensor) -> Tensor:
    """‖·‖_∞ over the last dimension, zero if that is empty; without a copy."""
    if vector.shape[-1] == 0:
        return vector.new_zeros(vector.shape[:-1])
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
