"""What stands between the free features and the last layer: nothing, or a rectifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ddn_etf.ufm.checks import check_object

__all__ = ["Activation", "Linear", "ReLU", "check_activation"]


class Activation(Protocol):
    """An elementwise function of features."""

    def __call__(self, features: Tensor) -> Tensor:
        """Of the shape of ``features``."""
        ...


def check_activation(activation: object) -> None:
    """Check that an activation is an object that can be called.

    Raises:
        TypeError: a class in place of an object, or something else.
    """
    check_object("activation", activation, ("__call__",), "Linear(), ReLU()")


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
