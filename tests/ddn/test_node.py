"""Nodes as modules: parameters, copies, nesting, and the contexts they are called in."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import ddn
from ddn.errors import SignatureError
from tests.ddn.problems import Affine, Entropy, softmax


def check(actual, expected, bound):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=bound, atol=bound)


@pytest.fixture
def affine(device, dtype):
    return Affine().to(device, dtype)


@pytest.fixture
def x(device, dtype):
    return torch.randn(4, 3, device=device, dtype=dtype, requires_grad=True)


def gradients(function, x, parameters):
    loss = (function(x) ** 3).sum()
    return torch.autograd.grad(loss, [x, *parameters])


def test_parameters_get_gradients(affine, x, tolerance):
    parameters = list(affine.parameters())
    actual = gradients(affine, x, parameters)
    check(actual, gradients(affine.closed_form, x, parameters), tolerance.gradient)


def test_second_derivatives_of_parameters(affine, x, tolerance):
    results = []
    for function in (affine, affine.closed_form):
        (first,) = torch.autograd.grad((function(x) ** 3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad((first**2).sum(), list(affine.parameters())))
    check(*results, tolerance.second_order)


def test_frozen_parameters(affine, x, tolerance):
    affine.linear.weight.requires_grad_(False)
    wanted = [affine.linear.bias]
    check(
        gradients(affine, x, wanted), gradients(affine.closed_form, x, wanted), tolerance.gradient
    )


def test_tied_parameters(device, dtype, tolerance):
    """One matrix under two names: its gradient is the sum of both uses."""

    class Tied(ddn.DeclarativeNode):
        signature = "(n)->(n)"

        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def objective(self, x, y):
            return 0.5 * (y - self.second(self.first(x).tanh())).square().sum()

    node = Tied().to(device, dtype)
    x = torch.randn(2, 3, device=device, dtype=dtype, requires_grad=True)
    check(
        gradients(node, x, [node.first.weight]),
        gradients(lambda x: node.second(node.first(x).tanh()), x, [node.first.weight]),
        tolerance.gradient,
    )


def test_training_step(affine, x, tolerance):
    """Parameters change in place between forward passes."""
    optimizer = torch.optim.SGD(affine.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (affine(x.detach()) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)
    check([affine(x)], [affine.closed_form(x)], tolerance.value)


def test_node_inside_an_objective(x, tolerance):
    """argmin ½ ‖y − x‖² + ‖node(y)‖²: the inner problem is differentiated twice by the outer one."""

    class Outer(ddn.DeclarativeNode):
        signature = "(n)->(n)"

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def objective(self, x, y):
            return 0.5 * (y - x).square().sum() + self.inner(y).square().sum()

    known = Outer(nn.Softmax(-1))
    for inner in (Entropy(), ddn.nodes.EntropicSimplexProjection()):
        node = Outer(inner)
        check([node(x)], [known(x)], tolerance.solver)
        check(gradients(node, x, []), gradients(known, x, []), tolerance.solver)


def test_inner_parameters_of_a_nested_node(device, dtype, tolerance):
    class Outer(ddn.DeclarativeNode):
        signature = "(n)->(m)"

        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.dimensions = inner.dimensions

        def objective(self, x, y):
            return 0.5 * (y - self.inner(x)).square().sum()

    inner = Affine().to(device, dtype)
    node = Outer(inner)
    x = torch.randn(2, 3, device=device, dtype=dtype, requires_grad=True)
    parameters = list(inner.parameters())
    assert [id(p) for p in node.parameters()] == [id(p) for p in parameters]
    check(
        gradients(node, x, parameters),
        gradients(inner.closed_form, x, parameters),
        tolerance.gradient,
    )


def test_sequential(x, device, dtype, tolerance):
    layers = nn.Sequential(nn.Linear(3, 3), Entropy(), nn.Linear(3, 3), Entropy())
    plain = nn.Sequential(layers[0], nn.Softmax(-1), layers[2], nn.Softmax(-1))
    layers.to(device, dtype)
    parameters = list(layers.parameters())
    check(gradients(layers, x, parameters), gradients(plain, x, parameters), tolerance.gradient)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))]
)
def test_copies(duplicate, affine, x):
    affine(x)
    twin = duplicate(affine)
    assert torch.equal(twin(x), affine(x))
    assert {id(p) for p in twin.parameters()}.isdisjoint({id(p) for p in affine.parameters()})


def test_state_dict(affine, x, device, dtype):
    other = Affine().to(device, dtype)
    assert set(affine.state_dict()) == {"linear.weight", "linear.bias", "scale", "steps"}
    assert not torch.equal(other(x), affine(x))
    other.load_state_dict(affine.state_dict())
    assert torch.equal(other(x), affine(x))


def test_no_grad_and_inference_mode(affine, x):
    expected = affine(x).detach()
    with torch.no_grad():
        assert not affine(x).requires_grad
    with torch.inference_mode():
        y = affine(x)
        assert y.is_inference()
        status = affine.solution(x).status
    assert torch.equal(y, expected)
    assert status.tolist() == [0] * 4
    with torch.inference_mode():
        inside = x.detach().clone()
    assert torch.equal(Entropy()(inside), Entropy()(x.detach()))


def test_backward_twice(x, tolerance):
    y = Entropy()(x)
    first = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    second = torch.autograd.grad(y.square().sum(), x)
    check(first, second, 0.0)
    loss = Entropy()(x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", [Entropy, ddn.nodes.EntropicSimplexProjection])
def test_checkpoint(kind, reentrant, x, tolerance):
    """Recomputation in the backward pass instead of storage."""
    node = kind()

    def loss(function):
        return (function(x) ** 3).sum()

    actual = loss(lambda x: checkpoint(node, x, use_reentrant=reentrant))
    (gradient,) = torch.autograd.grad(actual, x) if not reentrant else backward(actual, x)
    check([gradient], torch.autograd.grad(loss(softmax), x), tolerance.gradient)


def backward(loss, x):
    loss.backward()
    return (x.grad,)


def test_saved_tensor_hooks(affine, x, tolerance):
    """As used by offloading: every tensor is packed and unpacked, forward and backward."""
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        actual = gradients(affine, x, affine.parameters())
    check(actual, gradients(affine.closed_form, x, affine.parameters()), tolerance.gradient)


def test_description():
    assert repr(Entropy()) == "Entropy(signature='(n)->(n)')"
    text = repr(Entropy(on_failure="nan", solver=ddn.solvers.Newton(max_iterations=7)))
    assert "on_failure='nan'" in text
    assert "max_iterations=7" in text


def test_empty_solution_is_refused():
    with pytest.raises(SignatureError, match="at least one problem"):
        Entropy().solution(torch.zeros(0, 3))


def test_no_mutable_state_is_shared():
    first, second = Affine(outputs=2), Affine(outputs=3)
    assert (first.dimensions, second.dimensions) == ({"m": 2}, {"m": 3})
    assert Entropy().dimensions == {}


@pytest.mark.parametrize("options", [{"solver": "newton"}, {"gradient": "implicit"}])
def test_names_in_place_of_objects(options):
    with pytest.raises(TypeError, match=r"such as ddn\."):
        Entropy(**options)
