"""The methods that ``ddn-etf`` can train: a name, what it means, and how to build its head.

This is the one place where a head gets its name on the command line. All methods see features
normalised the same way, h = tau f / ||f||, and differ only in where the classifier comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ddn_etf.frames import orthogonal_frame, softmax_code
from ddn_etf.heads import (
    FixedETFHead,
    FixedFrameHead,
    Head,
    LinearHead,
    NearestETFHead,
    NearestFrameHead,
)

__all__ = ["DEFAULT_METHODS", "METHODS", "Method", "find_method", "find_methods"]


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


def _plain_linear(dim: int, num_classes: int, temperature: float) -> Head:
    return LinearHead(dim, num_classes, temperature=temperature)


def _detached_nearest_etf(dim: int, num_classes: int, temperature: float) -> Head:
    return NearestETFHead(dim, num_classes, temperature=temperature, gradient_through_frame=False)


def _orthogonal(dim: int, num_classes: int, temperature: float) -> Head:
    return FixedFrameHead(orthogonal_frame(num_classes, dim), temperature=temperature)


def _nearest_orthogonal(dim: int, num_classes: int, temperature: float) -> Head:
    frame = orthogonal_frame(num_classes, num_classes)
    return NearestFrameHead(frame, dim, temperature=temperature)


def _softmax_code(dim: int, num_classes: int, temperature: float) -> Head:
    return FixedFrameHead(softmax_code(num_classes, dim), temperature=temperature)


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
        Method(
            name="plain-linear",
            title="learned, any length",
            description=(
                "The weight is learned by gradient descent, as in torch.nn.Linear; its rows may have "
                "any length."
            ),
            build=_plain_linear,
        ),
        Method(
            name="nearest-etf-detached",
            title="nearest ETF, detached",
            description=(
                "As nearest-etf, but no gradient passes through the declarative node: the weight is "
                "a constant in each step."
            ),
            build=_detached_nearest_etf,
        ),
        Method(
            name="orthogonal",
            title="orthogonal",
            description=(
                "The weight is one orthogonal frame, chosen before training: the minimum of the mean "
                "squared error without bias (Tirer and Bruna, 2022). Needs d >= K."
            ),
            build=_orthogonal,
        ),
        Method(
            name="nearest-orthogonal",
            title="nearest orthogonal",
            description=(
                "The weight is the orthogonal frame nearest to the moving average of the class "
                "means, found anew in every step by a declarative node. Needs d >= K."
            ),
            build=_nearest_orthogonal,
        ),
        Method(
            name="softmax-code",
            title="softmax code",
            description=(
                "The weight is a softmax code (Jiang et al., 2023), chosen before training: the "
                "simplex ETF while d >= K - 1, and its generalisation for more classes."
            ),
            build=_softmax_code,
        ),
    )
}
"""Every method by name."""

DEFAULT_METHODS: tuple[Method, ...] = tuple(
    METHODS[name] for name in ("linear", "fixed-etf", "nearest-etf")
)
"""The three that Markou, Ajanthan and Gould (2024) compare."""


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
