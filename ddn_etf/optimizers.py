"""Optimisers as objects: what they are, apart from the parameters that they will move.

Learning rate and weight decay belong to every optimiser and are settings of the run
(:class:`ddn_etf.settings.TrainingSettings`); an object here holds what only its method has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import nn

from ddn_etf._names import find_named

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer", "find_optimizer"]


class Optimizer(Protocol):
    """What a run needs of an optimiser; a frozen dataclass with this method is one."""

    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum: m ← μ m + g + λ w,  w ← w - η m.

    Attributes:
        momentum: μ in [0, 1).
        nesterov: w ← w - η (g + λ w + μ m) instead (Nesterov, 1983); needs μ > 0.
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        _check_momentum(self.momentum)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, found momentum = 0")

    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""
        return torch.optim.SGD(
            parameters,
            lr=learning_rate,
            momentum=self.momentum,
            weight_decay=weight_decay,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient.

    Attributes:
        momentum: β₁ in [0, 1), of the gradient.
        second_momentum: β₂ in [0, 1), of its square.
    """

    momentum: float = 0.9
    second_momentum: float = 0.999
    _made: ClassVar[type[torch.optim.Adam]] = torch.optim.Adam

    def __post_init__(self) -> None:
        _check_momentum(self.momentum)
        _check_momentum(self.second_momentum, "second_momentum")

    def build(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""
        return self._made(
            parameters,
            lr=learning_rate,
            betas=(self.momentum, self.second_momentum),
            weight_decay=weight_decay,
        )


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, w ← (1 - η λ) w in every step (Loshchilov and Hutter, 2019).

    Attributes:
        momentum: β₁ in [0, 1), of the gradient.
        second_momentum: β₂ in [0, 1), of its square.
    """

    _made: ClassVar[type[torch.optim.Adam]] = torch.optim.AdamW


OPTIMIZERS: dict[str, type[SGD] | type[Adam] | type[AdamW]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
}
"""The optimisers by their names on the command line."""


def find_optimizer(name: str, momentum: float = 0.9) -> Optimizer:
    """The optimiser of this name, with this momentum (β₁ for Adam and AdamW).

    Raises:
        ValueError: the name is not known, or the momentum is out of range.
    """
    return find_named("optimizer", name, OPTIMIZERS, "known optimizers")(momentum=momentum)


def _check_momentum(value: float, name: str = "momentum") -> None:
    if not 0 <= value < 1 or math.isnan(value):
        raise ValueError(f"{name} must be a number in [0, 1), found {value}")
