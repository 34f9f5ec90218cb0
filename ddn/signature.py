"""Signatures in NumPy's gufunc notation: ``"(m,n),(m)->(n)"``.

A signature names the *core* dimensions of every input and of every block of the solution. All
dimensions to the left of them are batch dimensions, which broadcast across inputs as in NumPy.
An integer in place of a name fixes the size: ``"(d,10)->(d,9)"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor

from ddn.errors import ShapeError, SignatureError

__all__ = ["Binding", "Signature"]

Dimension = str | int
Term = tuple[Dimension, ...]

_NAME = r"(?:[A-Za-z_]\w*|\d+)"
_TERM = rf"\(\s*(?:{_NAME}\s*(?:,\s*{_NAME}\s*)*)?\)"
_TERMS = rf"{_TERM}(?:\s*,\s*{_TERM})*"
_SIGNATURE = re.compile(rf"^\s*({_TERMS})\s*->\s*({_TERMS})\s*$")


@dataclass(frozen=True)
class Binding:
    """A signature together with the sizes that concrete inputs give to its dimensions.

    Attributes:
        batch_shape: broadcast batch shape of all inputs.
        sizes: size of every named dimension that is known.
    """

    batch_shape: torch.Size
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Signature:
    """Parsed signature: one term of core dimensions per input and per solution block."""

    inputs: tuple[Term, ...]
    outputs: tuple[Term, ...]

    @classmethod
    @cache
    def parse(cls, text: str) -> Signature:
        """Parse gufunc notation.

        Raises:
            SignatureError: if ``text`` is not of the form ``"(m,n),(m)->(n)"``.
        """
        match = _SIGNATURE.match(text) if isinstance(text, str) else None
        if match is None:
            raise SignatureError(
                f"Cannot read the signature {text!r}. A signature lists the core dimensions of each "
                'input, then those of each solution block, for example "(m,n),(m)->(n)" or "(n)->()".'
            )
        return cls(_parse_terms(match.group(1)), _parse_terms(match.group(2)))

    def __str__(self) -> str:
        return (
            ",".join(map(format_term, self.inputs))
            + "->"
            + ",".join(map(format_term, self.outputs))
        )

    def bind(self, tensors: Sequence[Tensor], dimensions: Mapping[str, int]) -> Binding:
        """Match input shapes against the signature.

        Args:
            tensors: one tensor per input term, ``(*batch, *core)`` each.
            dimensions: sizes known beforehand (of dimensions that only the solution has, say).

        Raises:
            ShapeError: naming the input, its term and the shape that was found.
        """
        arguments = (self, tuple(t.shape for t in tensors), tuple(dimensions.items()))
        try:
            return _bind(*arguments)
        except TypeError:
            # In a compiled graph sizes are symbols, which have no hash.
            return _bind.__wrapped__(*arguments)

    def output_shapes(self, sizes: Mapping[str, int]) -> list[torch.Size]:
        """Core shape of every solution block.

        Raises:
            SignatureError: if the size of a dimension is not known.
        """
        return [torch.Size(_size(dimension, sizes, self) for dimension in t) for t in self.outputs]


def format_term(term: Term) -> str:
    """A term as it is written in a signature."""
    return "(" + ",".join(map(str, term)) + ")"


def _parse_terms(text: str) -> tuple[Term, ...]:
    terms: list[Term] = []
    for inside in re.findall(r"\(([^)]*)\)", text):
        names = [name.strip() for name in inside.split(",") if name.strip()]
        terms.append(tuple(int(name) if name.isdigit() else name for name in names))
    return tuple(terms)


def _size(dimension: Dimension, sizes: Mapping[str, int], signature: Signature) -> int:
    if isinstance(dimension, int):
        return dimension
    if dimension not in sizes:
        raise SignatureError(
            f"The size of dimension {dimension!r} of the solution is not known: no input of the "
            f"signature {signature} has it. Set it on the node: `self.dimensions = "
            f"{{{dimension!r}: ...}}`."
        )
    return sizes[dimension]


@lru_cache(maxsize=1024)
def _bind(
    signature: Signature, shapes: tuple[torch.Size, ...], dimensions: tuple[tuple[str, int], ...]
) -> Binding:
    if len(shapes) != len(signature.inputs):
        raise ShapeError(
            f"This node takes {len(signature.inputs)} input(s), signature {signature}, "
            f"but was called with {len(shapes)}."
        )
    sizes = dict(dimensions)
    origin = dict.fromkeys(sizes, "the node's `dimensions`")
    for position, (shape, term) in enumerate(zip(shapes, signature.inputs, strict=True)):
        label = f"input {position}, signature term {format_term(term)},"
        if len(shape) < len(term):
            raise ShapeError(
                f"The {label} needs at least {len(term)} dimension(s), but has shape "
                f"{tuple(shape)}."
            )
        core = shape[len(shape) - len(term) :]
        for dimension, size in zip(term, core, strict=True):
            expected = dimension if isinstance(dimension, int) else sizes.get(dimension)
            if expected is None:
                assert isinstance(dimension, str)
                sizes[dimension] = size
                origin[dimension] = f"input {position}"
            elif expected != size:
                source = "the signature" if isinstance(dimension, int) else origin[dimension]
                raise ShapeError(
                    f"The {label} has shape {tuple(shape)}: dimension {dimension!r} is "
                    f"{size} there, but {expected} according to {source}."
                )
    batch_shapes = [
        shape[: len(shape) - len(term)]
        for shape, term in zip(shapes, signature.inputs, strict=True)
    ]
    try:
        batch_shape = torch.broadcast_shapes(*batch_shapes)
    except RuntimeError:
        listing = ", ".join(
            f"input {position}: {tuple(shape)}" for position, shape in enumerate(batch_shapes)
        )
        raise ShapeError(
            f"Batch dimensions do not broadcast ({listing}; signature {signature}). Sizes must agree "
            "or be 1, aligned from the right."
        ) from None
    return Binding(torch.Size(batch_shape), sizes)
