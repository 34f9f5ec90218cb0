"""Schedules of the learning rate: a factor for every epoch.

A schedule has no state. The rate is a function of the epoch, so that a resumed run cannot get it
wrong. (Numbers of a head that change in the course of training follow a
:class:`ddn_etf.schedules.Schedule`.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ddn_etf._names import find_named
from ddn_etf.validation import check_count

__all__ = ["SCHEDULES", "Constant", "Cosine", "LearningRateSchedule", "find_schedule"]


class LearningRateSchedule(Protocol):
    """What a run needs of a schedule; a frozen dataclass with these members is one."""

    @property
    def depends_on_epochs(self) -> bool:
        """Whether a longer run has other factors from the start; such a run cannot be made longer."""
        ...

    def factor(self, epoch: int, epochs: int) -> float:
        """What the learning rate is multiplied with in an epoch, counted from 0, of ``epochs``."""
        ...


@dataclass(frozen=True)
class Constant:
    """The factor 1 in every epoch. The first epochs of a long run equal a short run."""

    depends_on_epochs: ClassVar[bool] = False

    def factor(self, epoch: int, epochs: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Cosine:
    r"""(1 + cos(π e/E))/2 in epoch e = 0, ..., E - 1: from 1 almost down to 0.

    Loshchilov and Hutter, "SGDR" (2017), eq. 5 with one period, without restarts.

    Attributes:
        warm_up_epochs: the first V epochs rise linearly, (e + 1)/(V + 1), and the cosine takes the
            epochs that are left.

    Raises:
        TypeError: not an integer.
        ValueError: below 0.
    """

    warm_up_epochs: int = 0
    depends_on_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("warm_up_epochs", self.warm_up_epochs, 0)

    def factor(self, epoch: int, epochs: int) -> float:
        """The factor of an epoch, in (0, 1]."""
        if epoch < self.warm_up_epochs:
            return (epoch + 1) / (self.warm_up_epochs + 1)
        rest = max(1, epochs - self.warm_up_epochs)
        return (1 + math.cos(math.pi * (epoch - self.warm_up_epochs) / rest)) / 2


SCHEDULES: dict[str, type[Constant] | type[Cosine]] = {"constant": Constant, "cosine": Cosine}
"""The schedules by their names on the command line."""


def find_schedule(name: str) -> LearningRateSchedule:
    """The schedule of this name, with its defaults.

    Raises:
        TypeError: the name is no text.
        ValueError: the name is not known; the message lists those that are.
    """
    return find_named("schedule", name, SCHEDULES, "known schedules")()
