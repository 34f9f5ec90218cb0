"""The methods that ``ddn-etf`` can train: a name, what it means, and how to build its head.

This is the one place where a head gets its name on the command line. All methods see features
normalised the same way, h = tau f / ||f||, and differ only in where the classifier comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ddn_etf.heads import FixedETFHead, Head, LinearHead, NearestETFHead

__all__ = ["METHODS", "Method", "find_method", "find_methods"]


@dataclass(frozen=True)
class Method:
    """One way to get the last layer.

    Attributes:
        name: what the command line and the files call it.
        title: what tables and figures call it.
        description: one sentence for the report.
        build: (dim, num_classes, temperature) -> head.
    """

    name: str
    title: str
    description: str
    build: Callable[[int, int, float], Head]


def _linear(dim: int, num_classes: int, temperature: float) -> Head:
    return LinearHead(dim, num_classes, temperature=temperature, unit_rows=True)


def _fixed_etf(dim: int, num_classes: int, temperature: float) -> Head:
    return FixedETFHead(dim, num_classes, temperature=temperature)


def _nearest_etf(dim: int, num_classes: int, temperature: float) -> Head:
    return NearestETFHead(dim, num_classes, temperature=temperature)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="linear",
            title="learned",
            description=(
                "The standard method of Markou, Ajanthan and Gould (2024): the weight is learned "
                "by gradient descent and its rows are kept at unit length."
            ),
            build=_linear,
        ),
        Method(
            name="fixed-etf",
            title="fixed ETF",
            description=(
                "The weight is one simplex equiangular tight frame (ETF), chosen before training "
                "and never changed."
            ),
            build=_fixed_etf,
        ),
        Method(
            name="nearest-etf",
            title="nearest ETF",
            description=(
                "The weight is the simplex ETF nearest to the moving average of the class means, "
                "found anew in every step by a declarative node; the backbone also gets the "
                "gradient that passes through it."
            ),
            build=_nearest_etf,
        ),
    )
}


def find_method(name: str) -> Method:
    """Look up one method.

    Raises:
        ValueError: the name is not known; the message lists those that are.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise ValueError(f"unknown head {name!r}; known heads: {', '.join(METHODS)}") from None


def find_methods(names: Iterable[str]) -> tuple[Method, ...]:
    """Look up several methods, in the order given.

    Raises:
        ValueError: no name, an unknown name, or a name given twice.
    """
    methods = tuple(find_method(name) for name in names)
    if not methods:
        raise ValueError(f"no head given; known heads: {', '.join(METHODS)}")
    found = [method.name for method in methods]
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"head {name!r} is given {found.count(name)} times; give it once")
    return methods
