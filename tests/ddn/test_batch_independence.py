"""A problem alone, beside one in other units and beside one that fails: the same to rounding."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.testing.problems import ZOO

EXACT = 1e-12
REGULAR = [problem for problem in ZOO if problem.regular and problem.differentiable]


def gradients(problem, inputs, row):
    """Solution, and gradient of a generic function of it, of the problem ``row`` of a batch, or of all."""
    node = problem.node(on_failure="nan").double()
    variables = [x.clone().requires_grad_() for x in inputs]
    y = node(*variables)
    blocks = (y,) if isinstance(y, torch.Tensor) else y
    picked = [block if row is None else block[row] for block in blocks]
    total = torch.zeros(())
    for block in picked:
        weight = torch.arange(1, block.numel() + 1).reshape(block.shape)
        total = total + (block * weight).sum()
    found = torch.autograd.grad(total, variables, materialize_grads=True)
    return picked, found


@pytest.mark.parametrize("problem", REGULAR, ids=lambda problem: problem.name)
def test_neighbours_change_nothing(problem):
    scale = torch.tensor([1.0, 1e6, 1.0])
    inputs = problem.sample(torch.Generator().manual_seed(3), size=3, batch=(3,), scale=scale)
    ranks = [len(term) for term in ddn.signature.Signature.parse(problem.node().signature).inputs]
    batched = [x.ndim > rank for x, rank in zip(inputs, ranks, strict=True)]
    if not any(batched):
        pytest.skip("all inputs are shared")
    alone = [x[0] if b else x for x, b in zip(inputs, batched, strict=True)]
    inputs = [x.clone() for x in inputs]
    inputs[batched.index(True)][2] = torch.nan
    y, found = gradients(problem, inputs, 0)
    expected_y, expected = gradients(problem, alone, None)
    own = [g[0] if b else g for g, b in zip(found, batched, strict=True)]
    for one, other in zip((*y, *own), (*expected_y, *expected), strict=True):
        size = max(float(other.detach().abs().max()), 1e-6) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=EXACT * size)
