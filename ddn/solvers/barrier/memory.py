"""What an interior-point run is told, remembers of every problem, and returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddn.solvers.barrier.batched import Batched
from ddn.solvers.barrier.iterate import Iterate

__all__ = ["Limits", "Memory", "Outcome"]


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Attributes:
        max_iterations: per problem.
        tolerance: relative error at which a problem counts as solved.
        acceptable: relative error that will do where nothing better comes.
        barrier: κ of the point that is sought.
    """

    max_iterations: int
    tolerance: float
    acceptable: float
    barrier: float


@dataclass
class Outcome:
    """Where the iterations end: ``point``, ``status`` and ``iterations`` of every problem."""

    point: Iterate
    status: Tensor
    iterations: Tensor

    def put(self, index: Tensor, other: Outcome) -> None:
        """Replace the outcome of the problems ``index``; iterations spent on them add up."""
        self.point = self.point.put(index, other.point)
        self.status[index] = other.status
        self.iterations[index] += other.iterations


@dataclass(frozen=True)
class Memory(Batched):
    """What a problem remembers from one iteration to the next, ``(batch,)`` each.

    Attributes:
        position: in the whole batch.
        extent: see :meth:`ddn.solvers.barrier.iterate.Sizes.at`.
        floor: likewise.
        reference: error that free steps must reduce.
        smallest: error so far.
        idle: iterations since it became smaller.
        fixed: whether the barrier parameter is held.
        target: the barrier parameter, where it is.
        tried: error at which the active set was tried.
        recorded: error of the result so far, if it will do.
        detours: free steps in a row that did not reduce the error.
    """

    position: Tensor
    extent: Tensor
    floor: Tensor
    reference: Tensor
    smallest: Tensor
    idle: Tensor
    fixed: Tensor
    target: Tensor
    tried: Tensor
    recorded: Tensor
    detours: Tensor
