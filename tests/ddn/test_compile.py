"""Nodes inside compiled modules: one operator of the graph, with the same values and gradients."""

from __future__ import annotations

import gc

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


class Scaled(ddn.DeclarativeNode):
    """argmin ‖y − s x‖², with s a plain attribute."""

    signature = "(n)->(n)"

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def objective(self, x, y):
        return ((y - self.scale * x) ** 2).sum()


def test_an_attribute_that_is_set_inside_breaks_the_graph(dtype):
    node = Scaled()

    def function(x, scale):
        x = 1.5 * x
        node.scale = scale
        return node(x) + 1

    compiled = torch.compile(function, backend="aot_eager")
    x = torch.ones(3, dtype=dtype)
    for scale in (2.0, 3.0, 4.0):
        torch.testing.assert_close(compiled(x, scale), 1.5 * scale * x + 1)
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="scale of Scaled is set inside"):
        torch.compile(function, backend="aot_eager", fullgraph=True)(x, 5.0)


def test_an_attribute_that_is_set_outside_needs_no_new_graph(dtype):
    node, graphs = Scaled(), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda x: 2 * node(x), backend=backend, fullgraph=True)
    x = torch.ones(3, dtype=dtype)
    for scale in range(12):
        node.scale = float(scale)
        torch.testing.assert_close(compiled(x), 2 * scale * x)
    assert len(graphs) == 1


def test_backward_after_the_node_is_gone(dtype):
    x = torch.ones(3, dtype=dtype, requires_grad=True)

    def loss():
        node = Scaled(3.0)
        return torch.compile(lambda x: node(x).sum(), backend="aot_eager", fullgraph=True)(x)

    value = loss()
    torch.compiler.reset()
    gc.collect()
    value.backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 3))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_node_made_inside(dtype):
    compiled = torch.compile(lambda x: 2 * Scaled(3.0)(x), backend="aot_eager")
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    y = compiled(x)
    torch.testing.assert_close(y, 6 * x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 6))
