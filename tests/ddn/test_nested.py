"""Nodes inside the problem of another node."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import jacfwd, jacrev, vmap

import ddn
from ddn.errors import DerivativeError
from tests.ddn.problems import Entropy


class Projection(ddn.DeclarativeNode):
    """argmin ½ ‖y − x‖²  s.t.  y ≥ 0."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        return 0.5 * (y - x).square().sum()

    def bounds(self, x):
        return 0.0, None


class Target(ddn.DeclarativeNode):
    """argmin ½ ‖y − inner(x)‖²: the inner node is not minimized over."""

    signature = "(n)->(n)"

    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def objective(self, x, y):
        return 0.5 * (y - self.inner(x)).square().sum()


class Penalty(Target):
    """argmin ½ ‖y − x‖² + ‖inner(y)‖²: the inner node is minimized over."""

    def objective(self, x, y):
        return 0.5 * (y - x).square().sum() + self.inner(y).square().sum()


class Constraint(Target):
    """argmin ½ ‖y − x‖²  s.t.  Σ y_i inner(y)_i = 1."""

    def objective(self, x, y):
        return 0.5 * (y - x).square().sum()

    def equality(self, x, y):
        return (y * self.inner(y)).sum() - 1


APPROXIMATE = {
    "one step": lambda: Entropy(gradient=ddn.OneStepGradient()),
    "unrolled": lambda: Entropy(gradient=ddn.UnrolledGradient(steps=3)),
    "unconstrained": lambda: Entropy(gradient=ddn.UnconstrainedGradient()),
    "smoothed": lambda: Projection(gradient=ddn.ImplicitGradient(smoothing=0.1)),
}


@pytest.mark.parametrize("name", APPROXIMATE)
@pytest.mark.parametrize("outer", [Penalty, Constraint])
def test_minimizing_over_an_approximate_gradient_is_refused(name, outer, dtype):
    inner = APPROXIMATE[name]()
    x = torch.rand(2, 3, dtype=dtype)
    with pytest.raises(DerivativeError, match=f"over the input of {type(inner).__name__}"):
        outer(inner)(x)
    with pytest.raises(DerivativeError), torch.no_grad():
        outer(nn.Sequential(inner)).solution(x)


class Hidden(Penalty):
    """The same with the inner node where PyTorch does not see it, called in several ways."""

    def __init__(self, inner, call):
        super().__init__(None)
        self.box, self.call = [inner], call

    def objective(self, x, y):
        inner = self.box[0]
        calls = {"solution": lambda y: inner.solution(y).y, "forward": inner.forward, "call": inner}
        return 0.5 * (y - x).square().sum() + calls[self.call](y).square().sum()


@pytest.mark.parametrize("call", ["call", "forward", "solution"])
@pytest.mark.parametrize("inference", [False, True])
def test_hidden_inner_nodes_are_found(call, inference, dtype):
    x = torch.rand(3, dtype=dtype)
    with torch.inference_mode(inference), pytest.raises(DerivativeError, match="input of Entropy"):
        Hidden(APPROXIMATE["one step"](), call)(x)


class Weighted(Target):
    """argmin ½ ‖y − inner(w x)‖²: the input of the inner node requires grad for the parameter."""

    def __init__(self, inner):
        super().__init__(inner)
        self.weight = nn.Parameter(torch.tensor(2.0))

    def objective(self, x, y):
        return 0.5 * (y - self.inner(self.weight * x)).square().sum()


def test_approximate_nodes_of_parameters(dtype, tolerance):
    node = Weighted(APPROXIMATE["one step"]()).to(dtype)
    x = torch.rand(3, dtype=dtype)
    found = torch.autograd.grad(node(x).square().sum(), node.weight)[0]
    expected = torch.autograd.grad(node.inner(node.weight * x).square().sum(), node.weight)[0]
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_smoothing_without_inequalities_is_exact(dtype):
    inner = Entropy(gradient=ddn.ImplicitGradient(smoothing=0.1))
    Penalty(inner)(torch.rand(3, dtype=dtype))


@pytest.mark.parametrize("name", APPROXIMATE)
def test_approximate_nodes_of_the_inputs(name, dtype, tolerance):
    inner = APPROXIMATE[name]()
    x = torch.rand(2, 3, dtype=dtype, requires_grad=True)
    node = Target(inner)
    found = torch.autograd.grad(node(x).square().sum(), x)[0]
    expected = torch.autograd.grad(inner(x).square().sum(), x)[0]
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_it_is_refused_in_compiled_graphs(dtype):
    compiled = torch.compile(Penalty(APPROXIMATE["one step"]()), backend="aot_eager")
    with pytest.raises(DerivativeError, match="over the input of Entropy"):
        compiled(torch.rand(3, dtype=dtype))


def test_approximations_of_what_is_not_minimized_over_are_allowed(dtype, tolerance):
    inner = Projection(gradient=ddn.ImplicitGradient(smoothing=0.1))
    x = torch.tensor([-1.0, 2.0], dtype=dtype, requires_grad=True)
    y = Target(inner)(x)
    torch.testing.assert_close(y, x.relu(), rtol=0, atol=tolerance.solver)
    (found,) = torch.autograd.grad(y.sum(), x)
    (expected,) = torch.autograd.grad(inner(x).sum(), x)
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)
    assert (found[0] > 0).all()  # it is the smoothed one


class SolvedTarget(Target):
    """The same, with its solution."""

    def solve(self, x):
        return x.softmax(-1)


@pytest.mark.parametrize("derivative", [jacrev, jacfwd])
def test_mapped_derivatives(derivative, dtype, tolerance):
    x = torch.randn(2, 3, dtype=dtype)
    found = vmap(derivative(SolvedTarget(Entropy())))(x)
    expected = vmap(jacrev(lambda x: x.softmax(-1)))(x)
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)
