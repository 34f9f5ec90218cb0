"""On which scale are errors of a solution and of its derivatives to be measured?

Problem by problem. Errors of y are relative to its known length. Those of a gradient with respect to x
are relative to the known gradient; but where that vanishes, or nearly so by cancellation, it is computed
from terms of the size |cotangent| · length / |x|, and may be off by a thousandth of the tolerance times
that, or by what solvers leave of an error in y if that is more (in float32 it is). Directions are as long
as the point they start from, so that no derivative depends on units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.signature import Signature
from ddn.testing.problems import KnownProblem
from tests.tolerances import TOLERANCES

__all__ = ["Units"]

_NEGLIGIBLE = 1e-3
# Solvers promise an optimality error of ε^(2/3); y may be off by a few times that.
_SOLVER_ERROR = 4.0


@dataclass(frozen=True)
class Units:
    """Sizes of the solution and of what it is differentiated by.

    Attributes:
        batch: batch shape.
        length: of y, ``(*batch,)``.
        points: inputs and parameters that are differentiated, in float64.
        ranks: number of their core dimensions; all dimensions of what the batch shares.
        tolerance: relative.
        negligible: errors of this size, relative to the terms of a gradient, are none.
    """

    batch: tuple[int, ...]
    length: Tensor
    points: list[Tensor]
    ranks: list[int]
    tolerance: float
    negligible: float

    @classmethod
    def of(
        cls,
        problem: KnownProblem,
        node: DeclarativeNode,
        inputs: Sequence[Tensor],
        points: Sequence[Tensor],
        y: Sequence[Tensor],
        batch: tuple[int, ...],
    ) -> Units:
        """Measure at the inputs; ``points`` are some of them and the parameters."""
        if problem.length is not None:
            length = problem.length(*(x.double() for x in inputs))
        else:
            length = torch.stack([_largest(b, b.ndim - len(batch)) for b in y]).amax(0)
        core = {
            id(x): len(term)
            for x, term in zip(inputs, Signature.parse(node.signature).inputs, strict=True)
        }
        ranks = [core.get(id(point), point.ndim) for point in points]
        dtype = inputs[0].dtype
        tolerance = TOLERANCES[dtype].solver
        accuracy = _SOLVER_ERROR * torch.finfo(dtype).eps ** (2 / 3)
        negligible = max(_NEGLIGIBLE * tolerance, accuracy)
        exact = [point.double() for point in points]
        return cls(batch, length, exact, ranks, tolerance, negligible)

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Numbers between −1 and 1."""
        value = torch.rand(like.shape, generator=generator, dtype=torch.float64)
        return (2 * value - 1).to(like.device)

    def directions(self, generator: torch.Generator) -> list[Tensor]:
        """Numbers up to the size of the points, problem by problem."""
        return [
            self.noise(point, generator) * _expand(_largest(point, rank), rank)
            for point, rank in zip(self.points, self.ranks, strict=True)
        ]

    def compare_solutions(self, found: Sequence[Tensor], known: Sequence[Tensor]) -> None:
        """AssertionError unless y is right."""
        for actual, expected in zip(found, known, strict=True):
            bound = self.tolerance * self.length
            self._compare(actual, expected, len(self.batch), bound, "solution")

    def compare_tangents(self, found: Sequence[Tensor], known: Sequence[Tensor]) -> None:
        """AssertionError unless the derivative along :meth:`directions` is right."""
        for actual, expected in zip(found, known, strict=True):
            size = _largest(expected, expected.ndim - len(self.batch))
            bound = self.tolerance * size + self.negligible * self.length
            self._compare(actual, expected, len(self.batch), bound, "forward mode")

    def compare_gradients(
        self,
        found: Sequence[Tensor],
        known: Sequence[Tensor],
        cotangents: Sequence[Tensor],
        what: str,
    ) -> None:
        """AssertionError unless the gradients are right."""
        weight = torch.stack([_largest(v, v.ndim - len(self.batch)) for v in cotangents]).amax(0)
        loss = weight * self.length
        for point, rank, actual, expected in zip(
            self.points, self.ranks, found, known, strict=True
        ):
            shared = point.ndim == rank
            size = _largest(point, rank)
            terms = (loss.sum() if shared else loss) / torch.where(size > 0, size, torch.inf)
            bound = self.tolerance * _largest(expected, rank) + self.negligible * terms
            self._compare(actual, expected, point.ndim - rank, bound, what)

    def _compare(
        self, actual: Tensor, expected: Tensor, dims: int, bound: Tensor, what: str
    ) -> None:
        assert actual.shape == expected.shape, f"{what}: {actual.shape} for {expected.shape}"
        error = _largest(actual.detach().double() - expected.detach(), expected.ndim - dims)
        # NaN is not right either.
        assert bool((error <= bound).all()), (
            f"{what}: error {error.tolist()}, allowed {bound.tolist()}\n"
            f"found {actual.detach().tolist()}\nknown {expected.detach().tolist()}"
        )


def _largest(x: Tensor, core: int) -> Tensor:
    """max |x_i| over the last ``core`` dimensions."""
    return x.detach().abs().flatten(x.ndim - core).amax(-1) if core else x.detach().abs()


def _expand(size: Tensor, core: int) -> Tensor:
    return size.reshape((*size.shape, *(1,) * core))
