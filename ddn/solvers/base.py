"""What a solver is: it takes the batched problem and returns solution vectors with a status each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart

__all__ = [
    "GivenPoint",
    "NodeSolve",
    "Solver",
    "WarmStartedSolver",
    "as_blocks",
    "call_solve",
    "check_blocks",
    "require_solver",
]


class Solver(Protocol):
    """Finds the solution of every problem of a batch, without derivatives.

    The node verifies the optimality conditions of what is returned, so that a solver cannot make a
    wrong gradient pass in silence.
    """

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        """Solve the batch; see :class:`ddn.problem.Problem` for what it offers."""


class WarmStartedSolver(Protocol):
    """A :class:`Solver` that can start at the solution of a similar batch of problems."""

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch; None means a cold start, at the starting point of the problem."""


def require_solver(value: object) -> None:
    """Raise TypeError unless the value is a solver, or None."""
    if value is None:
        return
    # Gradients have a `solve`, too, of four arguments.
    solve = getattr(value, "solve", None)
    if isinstance(value, type) or not callable(solve) or hasattr(value, "is_exact"):
        raise TypeError(
            "solver is an object with a method `solve`, such as ddn.solvers.Newton() (an instance, not a "
            f"class, and no gradient), but was given {value!r}."
        )


@dataclass(frozen=True)
class NodeSolve:
    """Calls the node's own ``solve``, with all inputs expanded to the whole batch.

    Problems with NaN among their inputs get NaN for an answer, and ``solve`` sees another problem of the
    batch in their place: decompositions raise an error for a whole batch if one matrix has a NaN.
    """

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch in one call of the node, which needs no start."""
        batch = problem.batch_shape(operands)
        inputs = problem.expand_inputs(operands, batch)
        undefined = _has_nan(problem, inputs, batch)
        if bool(undefined.any()) and not bool(undefined.all()):
            inputs = _replace_problems(problem, inputs, batch, undefined)
        y = call_solve(problem, inputs, batch)
        y = torch.where(undefined.unsqueeze(-1), torch.nan, y)
        status = torch.full(batch, int(Status.CONVERGED), device=y.device)
        return SolverResult(y, None, status, torch.zeros_like(status))


def call_solve(problem: Problem, inputs: Sequence[Tensor], batch: torch.Size) -> Tensor:
    """The solution vectors that the node's own ``solve`` returns for inputs of the whole batch."""
    if problem.node.solve is not None:
        name, value = "solve", problem.call("solve", inputs)
    else:
        name, (value, _) = "solve_and_save", problem.call("solve_and_save", inputs)
    blocks = as_blocks(value)
    check_blocks(problem, blocks, batch, name)
    return problem.join(blocks)


def _has_nan(problem: Problem, inputs: Sequence[Tensor], batch: torch.Size) -> Tensor:
    result = torch.zeros(batch, dtype=torch.bool, device=inputs[0].device)
    for value in inputs[: problem.num_inputs]:
        core = value.shape[len(batch) :]
        result = result | value.isnan().reshape(*batch, core.numel()).any(-1)
    return result


def _replace_problems(
    problem: Problem, inputs: Sequence[Tensor], batch: torch.Size, undefined: Tensor
) -> list[Tensor]:
    """Inputs with the data of the first defined problem in place of all undefined ones."""
    first = tuple((~undefined).nonzero()[0].tolist())
    result = list(inputs)
    for position in range(problem.num_inputs):
        value = inputs[position]
        core = (1,) * (value.ndim - len(batch))
        result[position] = torch.where(undefined.reshape(*batch, *core), value[first], value)
    return result


@dataclass(frozen=True)
class GivenPoint:
    """Returns a point that is given, whatever the problem: what is wrong with it is for others to say.

    Attributes:
        y: solution block ``(*batch, *core)``, or a tuple of them.
    """

    y: Tensor | Sequence[Tensor]

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        """The given point."""
        batch = problem.batch_shape(operands)
        given = as_blocks(self.y)
        fits = len(given) == len(problem.output_shapes) and all(
            block.ndim >= len(shape) and tuple(block.shape[block.ndim - len(shape) :]) == shape
            for block, shape in zip(given, problem.output_shapes, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"{type(problem.node).__name__}: y must have solution block(s) of core shape "
                f"{[tuple(shape) for shape in problem.output_shapes]}, but has shape "
                f"{[tuple(block.shape) for block in given]}."
            )
        blocks = [
            block.detach().to(operands[0]).expand(*batch, *shape)
            for block, shape in zip(given, problem.output_shapes, strict=True)
        ]
        y = problem.join(blocks).contiguous()
        status = torch.full(batch, int(Status.CONVERGED), device=y.device)
        return SolverResult(y, None, status, torch.zeros_like(status))


def as_blocks(value: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The solution of a node with one block or several, always as a tuple."""
    return (value,) if isinstance(value, Tensor) else tuple(value)


def check_blocks(
    problem: Problem, blocks: Sequence[Tensor], batch: torch.Size, function: str
) -> None:
    """Raise ShapeError unless there is one block of shape ``(*batch, *core)`` per output term."""
    expected = [(*batch, *shape) for shape in problem.output_shapes]
    found = [tuple(block.shape) for block in blocks]
    if found != expected:
        raise ShapeError(
            f"{type(problem.node).__name__}.{function} must return solution block(s) of shape "
            f"{expected} for batch shape {tuple(batch)}, but returned {found}. `{function}` is "
            "batched: it sees all problems at once."
        )
