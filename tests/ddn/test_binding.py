"""Dtypes of inputs, node and computation; autocast."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.ddn.problems import Entropy, EqualityQP, Ridge, make_node


def quadratic(device):
    root = torch.randn(3, 5, 5, device=device)
    Q = root @ root.mT + 5 * torch.eye(5, device=device)
    return (
        Q,
        torch.randn(3, 5, device=device),
        torch.randn(2, 5, device=device),
        torch.ones(2, device=device),
    )


@pytest.mark.parametrize("transform", ["backward", "jacrev", "jacfwd", "double"])
def test_autocast_does_not_reach_the_engine(transform, device):
    """float32 inputs under autocast: the same numbers as without, derivatives too."""
    Q, q, A, b = quadratic(device)
    q.requires_grad_()
    node = EqualityQP()

    def run():
        if transform == "backward":
            return torch.autograd.grad(node(Q, q, A, b).square().sum(), q)[0]
        if transform == "double":
            (first,) = torch.autograd.grad(node(Q, q, A, b).square().sum(), q, create_graph=True)
            return torch.autograd.grad(first.square().sum(), q)[0]
        return getattr(torch.func, transform)(lambda q: node(Q, q, A, b))(q.detach())

    expected = run()
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        actual = run()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_inputs_are_solved_in_float32(narrow, device):
    x = torch.randn(4, 3, device=device).to(narrow).requires_grad_()
    y = Entropy()(x)
    assert y.dtype == narrow
    assert torch.equal(y, Entropy()(x.float()).to(narrow))
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.dtype == narrow
    assert (
        Ridge()(torch.eye(3, device=device).to(narrow), x[0], torch.ones((), device=device)).dtype
        == torch.float32
    )


def test_autocast_activations(device):
    """The bfloat16 output of a layer under autocast is the input of a node."""
    layer = nn.Linear(3, 3).to(device)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        h = layer(torch.randn(4, 3, device=device))
        y = Entropy()(h)
    assert h.dtype == y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.isfinite().all())


def test_constants_in_another_dtype():
    """A scalar in float64 promotes the objective, as in torch, and leaves the solution in float32."""
    node = make_node(
        "(n)->(n)",
        lambda x, y: (y - x).square().sum() * torch.ones((), dtype=torch.float64),
        lambda x, y: y.sum() - torch.ones((), dtype=torch.float64),
    )
    x = torch.randn(2, 3, requires_grad=True)
    y = node(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, x - (x.sum(-1, keepdim=True) - 1) / 3, rtol=1e-4, atol=1e-4)
    assert torch.autograd.grad(y[:, 0].sum(), x)[0].dtype == torch.float32
