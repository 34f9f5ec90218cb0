"""Names that a user types: look one up, and say which one may have been meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

__all__ = ["find_named", "unknown_name"]

Found = TypeVar("Found")


def find_named(kind: str, name: str, registry: Mapping[str, Found], known: str = "known") -> Found:
    """The value of a name.

    Args:
        kind: what is looked up, for the message.
        name: what was typed.
        registry: values by name.
        known: what the list of names in the message is called.

    Raises:
        TypeError: the name is no text.
        ValueError: the name is not known; the message has the nearest one and all that are.
    """
    if not isinstance(name, str):
        names = f"{known}: {', '.join(registry)}"
        raise TypeError(f"a {kind} is looked up by its name, found {name!r}; {names}")
    if name not in registry:
        raise ValueError(unknown_name(kind, name, registry, known))
    return registry[name]


def unknown_name(kind: str, name: str, names: Iterable[str], known: str = "known") -> str:
    """What to say of a name that is not known."""
    names = list(names)
    near = get_close_matches(name.lower(), names, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {name!r}{meant}; {known}: {', '.join(names)}"
