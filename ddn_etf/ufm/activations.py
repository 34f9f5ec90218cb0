"""What stands between the free features and the last layer: nothing, or a rectifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Activation", "Linear", "ReLU"]


class Activation(Protocol):
    """An elementwise function of features."""

    def __call__(self, features: Tensor) -> Tensor:
        """Of the shape of ``features``."""
        ...


@dataclass(frozen=True)
class Linear:
    """x: no activation."""

    def __call__(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features


@dataclass(frozen=True)
class ReLU:
    """max(x, 0); the derivative at 0 is taken as 0."""

    def __call__(self, features: Tensor) -> Tensor:
        """Without what is negative."""
        return features.relu()
