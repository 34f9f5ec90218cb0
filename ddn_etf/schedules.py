"""Schedules: a number that changes in the course of training, as a function of the step.

A head takes one in place of its temperature τ or its proximal weight δ, keeps count of the steps in
its state dict, and goes on to the next one when :meth:`ddn_etf.heads.Head.advance` is called: once
per epoch or once per batch, as the schedule is meant.

>>> head = NearestETFHead(64, 10, temperature=CosineSchedule(1.0, 5.0, steps=20))  # doctest: +SKIP

Any other function of the step, a whole number from 0, will do as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ddn_etf.validation import check_count, check_real

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "LinearSchedule",
    "Schedule",
    "StepSchedule",
    "positive_value",
]


@runtime_checkable
class Schedule(Protocol):
    """A number for every step."""

    def __call__(self, step: int) -> float:
        """The value after ``step`` calls of ``advance``; ``step`` is 0, 1, 2, ..."""
        ...


@dataclass(frozen=True)
class ConstantSchedule:
    """The same value in every step.

    Args:
        value: the number, finite.

    Raises:
        TypeError, ValueError: the value is not a finite number.
    """

    value: float

    def __post_init__(self) -> None:
        _check_finite("value", self.value)

    def __call__(self, step: int) -> float:
        """``value``."""
        return self.value


@dataclass(frozen=True)
class LinearSchedule:
    """start + (end - start) t with t = min(step/steps, 1): a straight line, then constant.

    Args:
        start: value in step 0.
        end: value from step ``steps`` on.
        steps: length of the line, at least 1.

    Raises:
        TypeError, ValueError: ``steps`` is not an integer of at least 1, or an end not finite.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_ramp(self.start, self.end, self.steps)

    def __call__(self, step: int) -> float:
        """The value on the line."""
        t = min(step / self.steps, 1.0)
        # Exact at both ends.
        return (1 - t) * self.start + t * self.end


@dataclass(frozen=True)
class CosineSchedule:
    """start + (end - start)(1 - cos πt)/2 with t = min(step/steps, 1): level at both ends.

    Args:
        start: value in step 0.
        end: value from step ``steps`` on.
        steps: length of the half wave, at least 1.

    Raises:
        TypeError, ValueError: ``steps`` is not an integer of at least 1, or an end not finite.

    Source: Loshchilov and Hutter, "SGDR" (2017), eq. 5, without restarts.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_ramp(self.start, self.end, self.steps)

    def __call__(self, step: int) -> float:
        """The value on the half wave."""
        t = (1 - math.cos(math.pi * min(step / self.steps, 1.0))) / 2
        return (1 - t) * self.start + t * self.end


@dataclass(frozen=True)
class StepSchedule:
    """start · factor^m, m the number of milestones that were reached.

    Args:
        start: value before the first milestone.
        factor: what the value is multiplied with at each milestone.
        milestones: the steps at which that happens, increasing.

    Raises:
        TypeError, ValueError: the milestones are not increasing whole numbers of at least 0, or the
            start or the factor is not finite.
    """

    start: float
    factor: float
    milestones: Sequence[int]

    def __post_init__(self) -> None:
        _check_finite("start", self.start)
        _check_finite("factor", self.factor)
        if not isinstance(self.milestones, Sequence):
            raise TypeError(f"milestones must be a sequence of steps, found {self.milestones!r}")
        for position, milestone in enumerate(self.milestones):
            check_count(f"milestones[{position}]", milestone, 0)
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must increase, found {self.milestones}")

    def __call__(self, step: int) -> float:
        """The value between two milestones."""
        return self.start * self.factor ** sum(step >= at for at in self.milestones)


def positive_value(name: str, value: float | Schedule, purpose: str, step: int = 0) -> float:
    """The number itself, or that of a schedule, checked to be positive and finite.

    Args:
        name: what the number is called.
        value: the number or the schedule.
        purpose: what it is, for the message.
        step: of the schedule.

    Raises:
        TypeError: it is no number, or a class in place of a schedule.
        ValueError: it is not a positive finite number.
    """
    if isinstance(value, type):
        raise TypeError(
            f"{name} must be a number or a schedule, found the class {value.__name__}; make an "
            f"instance of it: {value.__name__}(...)"
        )
    found = value(step) if callable(value) else value
    where = f" in step {step} of its schedule {value}" if callable(value) else ""
    check_real(f"{name}{where}", found)
    if not 0 < found < math.inf:
        raise ValueError(f"{name} must be a positive number, {purpose}, found {found}{where}")
    return found


def _check_finite(name: str, value: float) -> None:
    check_real(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, found {value}")


def _check_ramp(start: float, end: float, steps: int) -> None:
    _check_finite("start", start)
    _check_finite("end", end)
    check_count("steps", steps, 1)
