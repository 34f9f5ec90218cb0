"""Nodes inside compiled modules: the graph breaks at the node, values and gradients stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ddn
import ddn.errors
from tests.ddn.problems import Affine, Entropy


class Network(nn.Module):
    """A node between two layers."""

    def __init__(self, node, width):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.node = node
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        return self.last(self.node(self.first(x).tanh()) * 2)


NODES = {
    "implicit": lambda: (Entropy(), 3),
    "parameters": lambda: (Affine(), 2),
    "closed form": lambda: (ddn.nodes.EntropicSimplexProjection(), 3),
    "sphere": lambda: (ddn.nodes.SphereProjection(), 3),
}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compare(name, backend, device, dtype, tolerance):
    network = Network(*NODES[name]()).to(device, dtype)
    compiled = torch.compile(network, backend=backend)
    x = torch.randn(4, 3, device=device, dtype=dtype, requires_grad=True)
    wanted = [x, *network.parameters()]
    results = []
    for model in (compiled, network):
        y = model(x)
        results.append([y, *torch.autograd.grad((y**2).sum(), wanted)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(
            actual, expected, rtol=tolerance.gradient, atol=tolerance.gradient
        )
    # Another batch size: the same compiled module.
    other = torch.randn(7, 3, device=device, dtype=dtype)
    torch.testing.assert_close(
        compiled(other), network(other), rtol=tolerance.value, atol=tolerance.value
    )


# Dynamo looks at .grad of every tensor behind a graph break.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", NODES)
def test_aot_eager(name, device, dtype, tolerance):
    compare(name, "aot_eager", device, dtype, tolerance)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_inductor(device, dtype, tolerance):
    compare("implicit", "inductor", device, dtype, tolerance)


def test_errors_pass_through(device, dtype):
    compiled = torch.compile(Entropy(), backend="aot_eager")
    with pytest.raises(ddn.errors.SolveError, match="NOT_FINITE"):
        compiled(torch.full((2, 3), torch.nan, device=device, dtype=dtype))
