"""A node's batched functions, as the differentiable functions call them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.engine import ImplicitEngine
from ddn.errors import ShapeError, SignatureError, UndeclaredTensorError
from ddn.kkt.dense import Dense
from ddn.problem import Problem
from ddn.solvers.base import NodeSolve, Solver, as_blocks, call_solve, check_blocks

__all__ = ["NodeFunctions", "guard_parameters"]


@dataclass(frozen=True)
class NodeFunctions:
    """``solve`` and ``vjp`` of a node that brings its own derivative.

    Attributes:
        problem: the problem of the node, bound to shapes.
        solver: finds the solution.
    """

    problem: Problem
    solver: Solver

    @property
    def core_ranks(self) -> tuple[int, ...]:
        """Core dimensions of every operand."""
        return self.problem.core_ranks

    @property
    def name(self) -> str:
        """Of the node's class."""
        return type(self.problem.node).__name__

    @property
    def num_blocks(self) -> int:
        """Number of solution blocks."""
        return len(self.problem.output_shapes)

    def solve(self, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Solution blocks, then what ``solve_and_save`` keeps for ``vjp``.

        The node's own solution is trusted, as its ``vjp`` is; that of any other solver is verified.
        """
        node = self.problem.node
        if not isinstance(self.solver, NodeSolve):
            engine = ImplicitEngine(self.problem, self.solver, Dense(), node.on_failure)
            return self.problem.split(engine.solve(operands)[0])
        with torch.no_grad():
            batch = self.problem.batch_shape(operands)
            if node.solve_and_save is None:
                inputs = self._expanded(operands, batch)
                return self.problem.split(call_solve(self.problem, inputs, batch))
            y, saved = self.problem.call("solve_and_save", self._expanded(operands, batch))
            blocks = as_blocks(y)
            check_blocks(self.problem, blocks, batch, "solve_and_save")
            return (*blocks, *saved)

    def pull_back(
        self,
        operands: Sequence[Tensor],
        y: Sequence[Tensor],
        grad_y: Sequence[Tensor],
        saved: Sequence[Tensor],
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the operands, summed over the problems that share one."""
        batch = self.problem.batch_shape(operands)
        expanded = self._expanded(operands, batch)
        num_inputs = self.problem.num_inputs
        single = len(y) == 1
        gradients = self.problem.invoke(
            "vjp",
            operands,
            tuple(expanded[:num_inputs]),
            y[0] if single else tuple(y),
            grad_y[0] if single else tuple(grad_y),
            *saved,
        )
        if gradients is None or isinstance(gradients, Tensor):
            gradients = (gradients,)
        gradients = tuple(gradients)
        if len(gradients) != num_inputs:
            raise SignatureError(
                f"{type(self.problem.node).__name__}.vjp must return one gradient (or None) per input, "
                f"{num_inputs}, but returned {len(gradients)}."
            )
        own = [
            self._reduce(position, gradient, operands[position], expanded[position])
            for position, gradient in enumerate(gradients)
        ]
        return (*own, *(None,) * (len(operands) - num_inputs))

    def as_solved(self) -> AbstractContextManager[None]:
        """The node with the attributes that it had when it was bound."""
        return self.problem.attributes.held()

    def _reduce(
        self, position: int, gradient: Tensor | None, operand: Tensor, expanded: Tensor
    ) -> Tensor | None:
        if gradient is None:
            return None
        # A gradient of the shape of a shared input would be one that was not summed over the batch.
        if gradient.shape != expanded.shape:
            raise ShapeError(
                f"{type(self.problem.node).__name__}.vjp returned a gradient of shape "
                f"{tuple(gradient.shape)} for input {position}, which has shape "
                f"{tuple(expanded.shape)} with the whole batch."
            )
        return gradient if gradient.shape == operand.shape else gradient.sum_to_size(operand.shape)

    def _expanded(self, operands: Sequence[Tensor], batch: torch.Size) -> list[Tensor]:
        return self.problem.expand_inputs(operands, batch)


def guard_parameters(problem: Problem, operands: Sequence[Tensor]) -> None:
    """Raise if a node with its own ``vjp`` has parameters that would get no gradient."""
    if any(operand.requires_grad for operand in operands[problem.num_inputs :]):
        raise UndeclaredTensorError(
            f"{type(problem.node).__name__} has parameters that require grad, but its `vjp` returns "
            "gradients of the inputs only. Construct it with gradient=ddn.ImplicitGradient(), make the "
            "parameters inputs, or freeze them with .requires_grad_(False)."
        )
