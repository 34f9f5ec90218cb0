"""Checks of what models, minima and solvers are made of: numbers in range, objects and not classes."""

from __future__ import annotations

import math
from numbers import Real

__all__ = ["check_number", "check_object"]


def check_number(
    name: str, value: object, *, minimum: float = 0.0, inclusive: bool = False, remedy: str = ""
) -> None:
    """Check a finite real number above ``minimum``, or of at least that where ``inclusive``.

    Args:
        name: of the argument.
        value: what was given for it.
        minimum: the lower end of its range.
        inclusive: whether the lower end belongs to the range.
        remedy: what to do, or why the range is as it is; ends the message.

    Raises:
        TypeError: no number, such as a text, a tensor or a bool.
        ValueError: NaN, infinite, or below the range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, found {value!r} ({type(value).__name__})")
    number = float(value)
    if math.isfinite(number) and (number > minimum or (inclusive and number == minimum)):
        return
    if minimum == 0 and not inclusive:
        allowed = "a positive number"
    else:
        allowed = f"a finite number {'of at least' if inclusive else 'above'} {minimum:g}"
    raise ValueError(f"{name} must be {allowed}, found {value}{remedy and f': {remedy}'}")


def check_object(name: str, value: object, needs: tuple[str, ...], known: str) -> None:
    """Check that an argument is an object with certain attributes, not its class and not its name.

    Args:
        name: of the argument.
        value: what was given for it.
        needs: attributes it must have.
        known: the objects there are, for the message.

    Raises:
        TypeError: a class in place of an object, or something else.
    """
    if isinstance(value, type):
        raise TypeError(
            f"{name} is the class {value.__name__}, and an object is needed: give one of {known}"
        )
    missing = [attribute for attribute in needs if not hasattr(value, attribute)]
    if missing:
        lacks = ", ".join("a call" if each == "__call__" else each for each in missing)
        raise TypeError(
            f"{name} is {value!r}, which has no {lacks}: give one of {known}, or an object that does "
            "what they do"
        )
