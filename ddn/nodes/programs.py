"""What quadratic and linear programs share: a selection of matrices as inputs.

A node has one signature, but constraints may be left out. So every selection of inputs has a node class of
its own, made when it is first used.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.functional import eager
from ddn.node import DeclarativeNode
from ddn.quadratic.data import QuadraticData

__all__ = ["StatedProgram"]

_TERMS = {
    "Q": "(n,n)",
    "q": "(n)",
    "A": "(p,n)",
    "b": "(p)",
    "G": "(k,n)",
    "h": "(k)",
    "lower": "(n)",
    "upper": "(n)",
}
_PAIRS = (("A", "b"), ("G", "h"))


class StatedProgram(DeclarativeNode):
    """A quadratic program with a given selection of inputs, in the order of :class:`ddn.QuadraticData`."""

    names: ClassVar[tuple[str, ...]]
    general: ClassVar[type[StatedProgram]]
    """The class that nodes for other selections of inputs derive from."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The functions below are the matrices: there is nothing to be looked through or compared.
        self._looked_through = self._inner_looked_through = True

    def named(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Inputs by name."""
        return dict(zip(self.names, inputs, strict=False))

    def hessian(self, parts: dict[str, Tensor]) -> Tensor:
        """Q; zero if it is no input."""
        q = parts["q"]
        return parts.get("Q", q.new_zeros(q.shape[-1], q.shape[-1]))

    def objective(self, *inputs: Tensor) -> Tensor:
        parts, y = self.named(inputs), inputs[-1]
        return 0.5 * y @ self.hessian(parts) @ y + parts["q"] @ y

    def equality(self, *inputs: Tensor) -> Tensor:
        parts = self.named(inputs)
        return parts["A"] @ inputs[-1] - parts["b"]

    def inequality(self, *inputs: Tensor) -> Tensor:
        parts = self.named(inputs)
        # +∞ is no constraint: a constant that holds.
        return torch.where(parts["h"] == torch.inf, -1, parts["G"] @ inputs[-1] - parts["h"])

    def bounds(self, *inputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        parts = self.named(inputs)
        return parts.get("lower"), parts.get("upper")

    def quadratic_program(self, *inputs: Tensor) -> QuadraticData:
        parts = self.named(inputs)
        return QuadraticData(**{**parts, "Q": self.hessian(parts)})

    def stated(self, **inputs: Tensor | None) -> tuple[DeclarativeNode, tuple[Tensor, ...]]:
        """The node for the inputs that are given, and these inputs.

        Raises:
            SignatureError: a matrix without its right side, or the other way round.
        """
        names = tuple(name for name in _TERMS if inputs.get(name) is not None)
        for pair in _PAIRS:
            if (pair[0] in names) != (pair[1] in names):
                raise SignatureError(
                    f"{type(self).__name__}: {pair[0]} and {pair[1]} belong together, but only one was given."
                )
        values = tuple(value for name in names if (value := inputs[name]) is not None)
        return (self if names == self.names else self._variant(names)), values

    def __getstate__(self) -> dict[str, Any]:
        # Classes that were made on the fly cannot be pickled, and are made again.
        return {key: value for key, value in self.__dict__.items() if key != "_variants"}

    def options(self) -> dict[str, Any]:
        """What a node for another selection of inputs is made with."""
        return {"solver": self.solver, "gradient": self.gradient, "on_failure": self.on_failure}

    @eager
    def _variant(self, names: tuple[str, ...]) -> DeclarativeNode:
        variants: dict[tuple[str, ...], DeclarativeNode] = self.__dict__.setdefault("_variants", {})
        node, options = variants.get(names), self.options()
        if node is None or any(getattr(node, key) is not value for key, value in options.items()):
            base: Any = self.general
            node = variants[names] = _variant_class(base, type(self).__name__, names)(**options)
        return node


StatedProgram.general = StatedProgram


@cache
def _variant_class(base: Any, name: str, names: tuple[str, ...]) -> type[StatedProgram]:
    body: dict[str, Any] = {
        "names": names,
        "signature": ",".join(_TERMS[part] for part in names) + "->(n)",
        "__doc__": base.__doc__,
        "__module__": base.__module__,
    }
    for function, part in (("equality", "A"), ("inequality", "G")):
        if part not in names:
            body[function] = None
    if "lower" not in names and "upper" not in names:
        body["bounds"] = None
    variant: type[StatedProgram] = type(name, (base,), body)
    return variant
