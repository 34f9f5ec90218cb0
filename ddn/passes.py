"""The forward and the backward pass of a node as two plain functions.

Between them, autograd keeps nothing: the solve returns what the derivative will need, and the
pull-back takes it with operands of the same values. That is how the operators of a compiled graph
(:mod:`ddn.compiled`) call a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.binding import Bound
from ddn.closures import guard_undeclared
from ddn.implicit import pull_back
from ddn.nested import guard_inner_gradients
from ddn.node_functions import NodeFunctions
from ddn.problem import Problem
from ddn.solution import SolverResult, Status

__all__ = ["pull_back_pass", "solve_pass"]


def solve_pass(bound: Bound, differentiated: bool) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Solution blocks in the dtype of the computation, and what :func:`pull_back_pass` needs of the solve.

    Args:
        bound: a node and its inputs.
        differentiated: whether a derivative may be taken: then tensors that the problem uses without
            declaring them are an error.
    """
    problem, operands = bound.problem, bound.operands
    node = problem.node
    if bound.is_empty:
        return bound.empty_solution(), ()
    if differentiated and not (node.uses_closed_form and node._looked_through):
        with torch.enable_grad():
            guard_undeclared(problem, operands)
        node._looked_through = True
    if not node.uses_closed_form:
        guard_inner_gradients(problem, operands)
    solver = node._default_solver()
    with torch.no_grad():
        if node.uses_closed_form:
            outputs = NodeFunctions(problem, solver).solve(operands)
            return outputs[: len(problem.output_shapes)], outputs
        gradient = node._default_gradient()
        if hasattr(gradient, "engine"):
            engine = gradient.engine(problem, solver, node.on_failure)
            outputs = engine.solve(operands)
            # With smoothing, what is differentiated is not what is returned.
            y = outputs[-2] if engine.smoothing else outputs[0]
            return problem.split(y), outputs[:3]
        solved = gradient.solve(problem, solver, operands, node.on_failure)
        return problem.split(solved.y), (solved.y, solved.multipliers)


def pull_back_pass(
    bound: Bound, kept: tuple[Tensor, ...], cotangents: Sequence[Tensor], needed: Sequence[int]
) -> list[Tensor | None]:
    """Gradients of the operands ``needed``, None for the others (and where there is no dependence).

    Args:
        bound: the same problem, with operands of the same values.
        kept: from :func:`solve_pass`.
        cotangents: one for each solution block.
        needed: positions of operands.
    """
    problem, operands = bound.problem, bound.operands
    node = problem.node
    if bound.is_empty:
        return [None] * len(operands)
    blocks = tuple(cotangent.to(operands[0].dtype) for cotangent in cotangents)
    solver = node._default_solver()
    with torch.no_grad():
        if node.uses_closed_form:
            count = len(blocks)
            functions = NodeFunctions(problem, solver)
            return list(functions.pull_back(operands, kept[:count], blocks, kept[count:]))
        grad_y = problem.join(blocks)
        gradient = node._default_gradient()
        if hasattr(gradient, "engine"):
            engine = gradient.engine(problem, solver, node.on_failure)
            y, multipliers, active = kept
            zeros = torch.zeros_like(multipliers)
            return pull_back(engine, (grad_y, zeros), y, multipliers, active, operands, needed)
    # Any other gradient takes the solution that was found as that of a solver, and lets autograd record.
    result: list[Tensor | None] = [None] * len(operands)
    leaves = [
        operand.detach().requires_grad_(position in needed)
        for position, operand in enumerate(operands)
    ]
    with torch.enable_grad():
        y = gradient.solve(problem, _Found(*kept), leaves, node.on_failure).y
    if y.requires_grad:
        wanted = [leaves[position] for position in needed]
        gradients = torch.autograd.grad(y, wanted, grad_y, allow_unused=True)
        for position, value in zip(needed, gradients, strict=True):
            result[position] = value
    return result


@dataclass(frozen=True)
class _Found:
    """A solver that has found the solution before."""

    y: Tensor
    multipliers: Tensor

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        batch = self.y.shape[:-1]
        status = torch.full(batch, int(Status.CONVERGED), device=self.y.device)
        return SolverResult(self.y, self.multipliers, status, torch.zeros_like(status))
