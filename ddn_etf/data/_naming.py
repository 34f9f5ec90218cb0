"""Names of sets that are made from others or from numbers: two different sets never share one.

A name goes into tables, titles of reports and the identity of a run, which a checkpoint keeps, so
that it is short, the same in every process, and holds everything that decides the samples.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

__all__ = ["described", "fingerprint", "number", "with_changes"]


def number(value: float) -> str:
    """As short as it can be without a change of value: 100, 0.4, 1e-05."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def fingerprint(values: Tensor) -> str:
    """Eight hexadecimal digits that tell vectors and matrices of numbers apart."""
    wide = torch.float64 if values.is_floating_point() else torch.int64
    content = values.detach().to("cpu", wide).contiguous().numpy()
    return hashlib.sha256(f"{tuple(values.shape)}".encode() + content.tobytes()).hexdigest()[:8]


def described(choice: object, values: Tensor) -> str:
    """What a profile or a kind of noise says of itself, or else its type and what it makes.

    Args:
        choice: if its class defines ``__str__``, that names all of its parameters.
        values: all that the samples depend on.
    """
    if type(choice).__str__ is not object.__str__:
        return str(choice)
    return f"{type(choice).__name__} {fingerprint(values)}"


def with_changes(name: str, **choices: tuple[Any, Any]) -> str:
    """The name, and the choices (value, default) that are not the default."""
    changed = [
        f"{choice} {number(value)}".replace("_", " ")
        for choice, (value, default) in choices.items()
        if value != default
    ]
    return ", ".join([name, *changed])
