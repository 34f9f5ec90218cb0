"""Starting a solver at the solution of a similar batch of problems."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch._C import _functorch

from ddn.errors import ShapeError
from ddn.problem import Problem
from ddn.solution import Solution, SolverResult, WarmStart
from ddn.solvers.base import Solver, WarmStartedSolver, as_blocks

__all__ = ["Previous", "WarmStarted", "warm_started"]

Previous = Solution | Tensor | Sequence[Tensor]
"""What a node has returned before."""


@dataclass(frozen=True)
class WarmStarted:
    """A solver that starts at the solution of a similar batch of problems.

    Where that solution is not finite (a problem that failed), the start is that of the problem.

    Attributes:
        solver: what solves.
        y: solution blocks, ``(*batch, *core)`` each, batch dimensions broadcasting to those of the problem.
        multipliers: by kind (λ, ν, those of lower and of upper bounds), each flattened to
            ``(*batch, rows)``; empty if none are known.
    """

    solver: WarmStartedSolver
    y: tuple[Tensor, ...]
    multipliers: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """Of the solver, for messages."""
        return type(self.solver).__name__

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        """Solve the batch, from the solution that is held."""
        return self.solver.solve(problem, operands, self._prepare(problem, operands))

    def _prepare(self, problem: Problem, operands: Sequence[Tensor]) -> WarmStart:
        name = type(problem.node).__name__
        batch = problem.batch_shape(operands)
        expected = [tuple(shape) for shape in problem.output_shapes]
        found = [
            tuple(block.shape[block.ndim - len(shape) :])
            for block, shape in zip(self.y, expected, strict=False)
        ]
        if len(self.y) != len(expected) or found != expected:
            raise ShapeError(
                f"{name}: warm_start has solution block(s) of shape {[tuple(b.shape) for b in self.y]}, but "
                f"the problem has blocks of core shape {expected}: give a solution of the same node, for "
                "inputs of the same core shapes."
            )
        like = operands[0]
        y = self._expand(name, problem.join([block.to(like) for block in self.y]), batch)
        known = y.isfinite().all(-1)
        multipliers = None
        if self.multipliers:
            joined = torch.cat([part.to(like) for part in self.multipliers], -1)
            rows = problem.constraints(y, operands).shape[-1]
            if joined.shape[-1] != rows:
                raise ShapeError(
                    f"{name}: warm_start has {joined.shape[-1]} multipliers, but the problem has {rows} "
                    "constraints: give a solution of the same node for inputs of the same core shapes, or "
                    "its y alone."
                )
            multipliers = self._expand(name, joined, batch)
            usable = (known & multipliers.isfinite().all(-1)).unsqueeze(-1)
            multipliers = torch.where(usable, multipliers, 0)
        if not bool(known.all()):
            y = torch.where(known.unsqueeze(-1), y, problem.starting_point(operands))
        return WarmStart(y, multipliers, known)

    def _expand(self, name: str, vector: Tensor, batch: torch.Size) -> Tensor:
        try:
            return vector.expand(*batch, vector.shape[-1])
        except RuntimeError as error:
            raise ShapeError(
                f"{name}: warm_start has batch shape {tuple(vector.shape[:-1])}, which does not broadcast to "
                f"that of the inputs, {tuple(batch)}."
            ) from error


def warm_started(solver: Solver, previous: Previous) -> WarmStarted:
    """The solver, started at a previous solution.

    Args:
        solver: what solves.
        previous: a :class:`ddn.Solution`, or the solution block or blocks alone.

    Raises:
        TypeError: the solver takes no warm start, or ``previous`` is no solution.
    """
    if "warm_start" not in inspect.signature(solver.solve).parameters:
        raise TypeError(
            f"{type(solver).__name__} takes no warm start: its `solve` has no argument `warm_start`. Use a "
            "solver that does, such as those of ddn.solvers, or leave warm_start out."
        )
    y = previous.y if isinstance(previous, Solution) else previous
    blocks = [y] if isinstance(y, Tensor) else y
    if not (
        isinstance(blocks, tuple | list) and all(isinstance(block, Tensor) for block in blocks)
    ):
        raise TypeError(
            "warm_start is a solution that a node has returned before (a ddn.Solution, a tensor, or a tuple "
            f"with one tensor per solution block), but was given {type(previous).__name__}."
        )
    multipliers: list[Tensor] = []
    if isinstance(previous, Solution):
        multipliers = [previous.equality_multipliers]
        if previous.inequality_multipliers is not None:
            multipliers.append(previous.inequality_multipliers)
        for side in (previous.lower_multipliers, previous.upper_multipliers):
            if side is not None:
                multipliers.append(_join_like(as_blocks(side), previous))
    return WarmStarted(
        cast("WarmStartedSolver", solver),
        tuple(map(_constant, as_blocks(y))),
        tuple(map(_constant, multipliers)),
    )


def _join_like(blocks: Sequence[Tensor], solution: Solution) -> Tensor:
    """Blocks ``(*batch, *core)`` of a solution as vectors ``(*batch, m)``."""
    batch = solution.status.shape
    return torch.cat([block.reshape(*batch, -1) for block in blocks], -1)


def _constant(tensor: Tensor) -> Tensor:
    """Where to start has no derivative.

    Raises:
        TypeError: if it is mapped by ``torch.func.vmap``, where the start of each problem is hidden.
    """
    with torch._C._DisableFuncTorch():
        while _functorch.is_functorch_wrapped_tensor(tensor):
            if _functorch.is_batchedtensor(tensor):
                raise TypeError(
                    "warm_start is mapped by torch.func.vmap: give the solution of the whole batch from "
                    "outside of the mapped function, or call the node on the batch itself."
                )
            tensor = _functorch.get_unwrapped(tensor)
        return tensor.detach()
