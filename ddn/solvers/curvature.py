"""Derivatives along directions that solvers of first order take now and then, by reverse passes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddn.functional import gradient, needs_functional, reverse
from ddn.generic import generic_signs
from ddn.optimality import largest
from ddn.problem import Problem
from ddn.solution import Status
from ddn.solvers.box import Box

__all__ = [
    "hessian_product",
    "inverse_curvature",
    "negative_curvature",
    "solve_to_minima",
    "value_and_gradient",
]

# The first step is at most so many times as long as y.
_FIRST_STEP = 10.0
# Dimension of the Krylov space in which a direction of negative curvature is sought.
_LANCZOS = 8
# Relative length of a step away from a stationary point that is no minimum, and how often it is tried.
_NUDGE, _ATTEMPTS = 1e-2, 4


def value_and_gradient(
    problem: Problem, y: Tensor, operands: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """f ``(*batch,)`` and ∇f ``(*batch, m)`` by one pass forward and one back."""
    if needs_functional(y, *operands):
        value, pullback = reverse(lambda y: problem.objective(y, operands), y)
        return value, pullback(torch.ones_like(value))[0]
    values: list[Tensor] = []

    def total(y: Tensor) -> Tensor:
        values.append(problem.objective(y, operands))
        return values[0].sum()

    slopes = gradient(total, y)[0]
    return values[0].detach(), slopes


def hessian_product(
    problem: Problem, y: Tensor, operands: Sequence[Tensor], vector: Tensor
) -> Tensor:
    """H v, ``(*batch, m)``."""
    _, pullback = reverse(lambda y: problem.gradient(y, operands), y)
    product: Tensor = pullback(vector)[0]
    return product


def inverse_curvature(
    problem: Problem, y: Tensor, slope: Tensor, operands: Sequence[Tensor], size: Tensor
) -> Tensor:
    """A step length along −∇f: to the minimum of the quadratic model, but not much farther than y is long."""
    length = largest(slope)
    known = _nonzero(length)
    unit = slope / known.unsqueeze(-1)
    curvature = (unit * hessian_product(problem, y, operands, unit)).sum(-1)
    inverse = unit.square().sum(-1) / curvature
    reach = torch.where(size > 0, size, 1) / known
    longest = torch.where(size > 0, _FIRST_STEP * reach, torch.inf)
    return torch.where((curvature > 0) & inverse.isfinite(), torch.minimum(inverse, longest), reach)


def negative_curvature(
    problem: Problem, y: Tensor, operands: Sequence[Tensor], free: Tensor
) -> tuple[Tensor, Tensor]:
    """Where H has a negative eigenvalue among the free variables, and a direction of it with ‖·‖_∞ = 1.

    By the Lanczos method with a start in general position: sure for a few variables, likely for many.
    """
    steps = min(_LANCZOS, y.shape[-1])
    eps = torch.finfo(y.dtype).eps
    vector = torch.where(free, generic_signs(y), 0)
    basis: list[Tensor] = []
    images: list[Tensor] = []
    for _ in range(steps):
        for earlier in (*basis, *basis):
            vector = vector - (vector * earlier).sum(-1, keepdim=True) * earlier
        length = vector.norm(dim=-1, keepdim=True)
        vector = torch.where(length > eps**0.5, vector / _nonzero(length), 0)
        basis.append(vector)
        image = torch.where(free, hessian_product(problem, y, operands, vector), 0)
        images.append(image)
        scale = largest(image).unsqueeze(-1)
        vector = image / _nonzero(scale)
    rows, products = torch.stack(basis, -2), torch.stack(images, -2)
    projected = rows @ products.mT
    projected = (projected + projected.mT) / 2
    finite = projected.isfinite().all(-1).all(-1)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], projected, 0))
    direction = (vectors[..., :1].mT @ rows).squeeze(-2)
    length = largest(direction)
    found = finite & (values[..., 0] < -(eps**0.5) * values.abs().amax(-1)) & (length > 0)
    return found, direction / _nonzero(length).unsqueeze(-1)


def solve_to_minima(
    run: Callable[[Tensor], None],
    problem: Problem,
    operands: list[Tensor],
    box: Box,
    start: Tensor,
    y: Tensor,
    status: Tensor,
) -> None:
    """Let a solver run, and run again from beside points that are stationary, but no minima.

    Where it comes to such points again and again the status is STALLED.

    Args:
        run: solves the problems of given indices from where they are; writes ``y`` and ``status``.
        problem: the problem.
        operands: of the flat batch.
        box: the bounds.
        start: where a cold start would be, ``(batch, m)``.
        y: where the problems are, ``(batch, m)``.
        status: those with MAX_ITERATIONS are to be solved, ``(batch,)``.
    """
    index = (status == Status.MAX_ITERATIONS).nonzero().squeeze(-1)
    for _ in range(_ATTEMPTS):
        if len(index) == 0:
            return
        run(index)
        ended = (status[index] == Status.CONVERGED) | (status[index] == Status.STALLED)
        index = _leave_maxima(problem, operands, box, start, y, index[ended])
    status[index] = int(Status.STALLED)


def _leave_maxima(
    problem: Problem, operands: list[Tensor], box: Box, start: Tensor, y: Tensor, index: Tensor
) -> Tensor:
    """A nudge for those of the problems ``index`` that have negative curvature; returns which these are."""
    if len(index) == 0:
        return index
    selected, at, bounds = problem.select(operands, index), y[index], box.select(index)
    free = ~bounds.held(at, problem.gradient(at, selected))
    found, direction = negative_curvature(problem, at, selected, free)
    size = torch.maximum(largest(at), largest(start[index]))
    size = torch.where(size > 0, size, 1).unsqueeze(-1)
    nudged = bounds.project(at + _NUDGE * size * direction)
    index = index[found]
    y[index] = nudged[found]
    return index


def _nonzero(size: Tensor) -> Tensor:
    return torch.where(size > 0, size, 1)
