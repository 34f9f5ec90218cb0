"""Records of tensors that share their first dimension, the problem."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["Batched"]


class Batched:
    """Base of data classes whose fields are tensors ``(batch, ...)``, such records, or None."""

    def select(self, index: Tensor) -> Self:
        """Some problems of the batch, by position or mask."""
        return self._map(lambda value, _: value[index])

    def where(self, mask: Tensor, other: Self) -> Self:
        """This record where ``mask`` is true, the other one elsewhere."""
        return self._map(lambda a, b: torch.where(_like(mask, a), a, b), other)

    def put(self, index: Tensor, other: Self) -> Self:
        """This record with the problems at ``index`` replaced by those of the other one."""
        return self._map(lambda a, b: a.index_copy(0, index, b), other)

    def _map(self, function: Any, other: Self | None = None) -> Self:
        changed = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            second = None if other is None else getattr(other, field.name)
            if isinstance(value, Batched):
                changed[field.name] = value._map(function, second)
            elif value is not None:
                changed[field.name] = function(value, second)
        return replace(self, **changed)  # type: ignore[type-var]


def _like(mask: Tensor, tensor: Tensor) -> Tensor:
    return mask.reshape(-1, *(1,) * (tensor.ndim - 1))
