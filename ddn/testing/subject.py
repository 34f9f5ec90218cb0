"""A node under test with its inputs, and the views of them that the checks need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddn.generic import generic_vector
from ddn.node import DeclarativeNode
from ddn.signature import Signature

__all__ = ["Subject", "as_tuple", "assert_close", "generic_loss"]

# Two exact routes to one number, in float64.
EXACT = 1e-8
_SMALL = 1e-3


@dataclass(frozen=True)
class Subject:
    """A node in float64 with inputs.

    Attributes:
        node: the node.
        inputs: ``(*batch, *core)`` each, detached.
        core_ranks: number of core dimensions of each input.
        differentiated: positions of the inputs to differentiate.
    """

    node: DeclarativeNode
    inputs: tuple[Tensor, ...]
    core_ranks: tuple[int, ...]
    differentiated: tuple[int, ...]

    @classmethod
    def make(cls, node: DeclarativeNode, inputs: Sequence[Tensor]) -> Subject:
        """Prepare inputs: float64, detached."""
        ranks = tuple(len(term) for term in Signature.parse(node.signature).inputs)
        wanted = tuple(i for i, value in enumerate(inputs) if value.requires_grad)
        everything = tuple(range(len(inputs)))
        return cls(node, tuple(v.detach().double() for v in inputs), ranks, wanted or everything)

    def single(self) -> tuple[Tensor, ...]:
        """The first problem, without batch dimensions."""
        return tuple(
            value[(0,) * (value.ndim - rank)]
            for value, rank in zip(self.inputs, self.core_ranks, strict=True)
        )

    def core_shapes(self) -> list[torch.Size]:
        """Core shapes of the solution blocks."""
        return list(self.node.bind(*self.inputs).problem.output_shapes)

    def stack(self, size: int = 3) -> tuple[Tensor, ...]:
        """A batch of ``size`` nearby problems, ``(size, *core)`` each."""
        return tuple(
            torch.stack([_nearby(value, seed) for seed in range(size)]) for value in self.single()
        )

    def function(
        self, of_multipliers: bool = False
    ) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
        """The node as a function of differentiated inputs and parameters, and their values.

        With ``of_multipliers``, its value is that of all multipliers in place of the solution.
        """
        parameters = {k: p.detach() for k, p in self.node.named_parameters() if p.requires_grad}
        inputs = list(self.inputs)
        count = len(self.differentiated)
        call = self._multipliers if of_multipliers else self.node

        def function(*arguments: Tensor) -> Any:
            values = list(inputs)
            for position, value in zip(self.differentiated, arguments[:count], strict=True):
                values[position] = value
            if not parameters:
                return call(*values)
            names = (f"node.{name}" for name in parameters)
            state = dict(zip(names, arguments[count:], strict=True))
            return torch.func.functional_call(_Caller(self.node, call), state, tuple(values))

        return function, (*(inputs[i] for i in self.differentiated), *parameters.values())

    def _multipliers(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        solution = self.node.solution(*inputs)
        found = (
            solution.equality_multipliers,
            solution.inequality_multipliers,
            solution.lower_multipliers,
            solution.upper_multipliers,
        )
        blocks = (block for part in found if part is not None for block in as_tuple(part))
        return tuple(block for block in blocks if block.numel())

    def variables(
        self, of_multipliers: bool = False
    ) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
        """Like :meth:`function`, with values that require grad."""
        function, values = self.function(of_multipliers)
        return function, tuple(value.clone().requires_grad_() for value in values)


class _Caller(nn.Module):
    """Lets ``functional_call`` exchange the parameters of a node in any of its methods."""

    def __init__(self, node: nn.Module, method: Callable[..., Any]) -> None:
        super().__init__()
        self.node = node
        self.method = [method]  # hidden: a method of the node, or the node itself

    def forward(self, *inputs: Tensor) -> Any:
        return self.method[0](*inputs)


def as_tuple(value: Any) -> tuple[Tensor, ...]:
    """One tensor or several, as a tuple."""
    return (value,) if isinstance(value, Tensor) else tuple(value)


def generic_loss(blocks: Any, core_shapes: Sequence[torch.Size]) -> Tensor:
    """A scalar function of the solution without symmetries, summed over the batch.

    The sum of squares would not do: it is constant on spheres and orthonormal matrices.
    """
    total = torch.zeros((), dtype=torch.float64)
    for block, shape in zip(as_tuple(blocks), core_shapes, strict=True):
        weight = generic_vector(block.new_empty(shape.numel())).reshape(shape)
        total = total + (weight * (block + block.square() / 2)).sum()
    return total


def assert_close(actual: Any, expected: Any, what: str, tolerance: float = EXACT) -> float:
    """Largest difference relative to the expected size; AssertionError if above ``tolerance``.

    Where the expected numbers are tiny (a gradient that vanishes), relative to ``_SMALL``.
    """
    worst = 0.0
    for found, wanted in zip(as_tuple(actual), as_tuple(expected), strict=True):
        if found.shape != wanted.shape:
            raise AssertionError(
                f"{what}: shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
            )
        if wanted.numel() == 0:
            continue
        size = max(float(wanted.detach().abs().max()), _SMALL)
        difference = float((found - wanted).detach().abs().max())
        worst = max(worst, difference / size)
        if not worst <= tolerance:  # NaN fails, too
            raise AssertionError(
                f"{what}: relative difference {worst:.1e} (tolerance {tolerance:.0e})"
            )
    return worst


def _nearby(value: Tensor, seed: int) -> Tensor:
    """``value`` with every entry changed by at most one percent, differently for every seed."""
    noise = generic_vector(value.new_empty(value.numel() + seed))[seed:].reshape(value.shape)
    return value * (1 + 0.01 * seed * (noise - 1))
