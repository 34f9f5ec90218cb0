"""Gradients through steps of a fixed-point method, and the one that drops the constraints."""

from __future__ import annotations

import pytest
import torch
from torch.func import hessian, jacfwd, jacrev, vmap

import ddn
from ddn.errors import DerivativeError, SignatureError, SolveError
from tests.ddn.problems import Affine, Entropy, make_node
from tests.ddn.test_inequality import Ball, Box

STEPS = 400


def cases(dtype):
    x = torch.tensor([0.3, -0.2, 0.5], dtype=dtype)
    return {
        "equality": (Entropy, (x,)),
        "bounds": (Box, (x, torch.zeros_like(x), torch.full_like(x, 0.4))),
        "ball": (Ball, (x, torch.tensor(0.4, dtype=dtype))),
        "parameters": (Affine, (x,)),
    }


@pytest.mark.parametrize("name", ["equality", "bounds", "ball", "parameters"])
def test_many_steps_are_exact_to_second_order(name):
    make, inputs = cases(torch.float64)[name]
    torch.manual_seed(0)
    exact = make().double()
    node = make(gradient=ddn.UnrolledGradient(steps=STEPS)).double()
    node.load_state_dict(exact.state_dict())
    torch.testing.assert_close(node(*inputs), exact(*inputs), rtol=0, atol=0)
    for derivative in (jacrev, jacfwd, hessian):
        found, expected = derivative(node)(*inputs), derivative(exact)(*inputs)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["equality", "bounds", "ball"])
def test_error_falls_geometrically(name):
    make, inputs = cases(torch.float64)[name]
    exact = jacrev(make())(*inputs)
    errors = []
    for steps in (1, 4, 16, 64):
        node = make(gradient=ddn.UnrolledGradient(steps=steps))
        errors.append(float((jacrev(node)(*inputs) - exact).abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0] or errors[0] < 1e-12
    one = make(gradient=ddn.OneStepGradient())
    assert float((jacrev(one)(*inputs) - exact).abs().max()) == pytest.approx(errors[0])


def test_batches_and_vmap(device, dtype, tolerance):
    x = torch.randn(4, 3, device=device, dtype=dtype, requires_grad=True)
    node = Entropy(gradient=ddn.UnrolledGradient(steps=5))
    (together,) = torch.autograd.grad(node(x)[:, 0].sum(), x)
    alone = torch.stack([torch.autograd.grad(node(row)[0], row)[0] for row in x])
    close = {"rtol": tolerance.gradient, "atol": tolerance.gradient}
    torch.testing.assert_close(together, alone, **close)
    mapped = vmap(torch.func.grad(lambda row: node(row)[0]))(x.detach())
    torch.testing.assert_close(mapped, alone, **close)


def test_multipliers_converge_too():
    x = torch.randn(3, dtype=torch.float64)
    node = Entropy(gradient=ddn.UnrolledGradient(steps=STEPS))
    found = jacrev(lambda x: node.solution(x).equality_multipliers)(x)
    torch.testing.assert_close(found, torch.softmax(x, 0)[None], rtol=1e-8, atol=1e-8)


class Cosine(ddn.DeclarativeNode):
    """argmin ½ y² − ∫ x cos y: the fixed point of y ↦ x cos y, which contracts for small x."""

    signature = "()->()"

    def objective(self, x, y):
        return 0.5 * y**2 - x * y.sin()

    def iteration(self, x, y):
        return x * y.cos()


def test_own_iteration():
    x = torch.tensor([0.2, 0.5], dtype=torch.float64)
    exact = vmap(jacrev(Cosine()))(x)
    y = Cosine()(x)
    one = vmap(jacrev(Cosine(gradient=ddn.OneStepGradient())))(x)
    torch.testing.assert_close(one, y.cos())
    many = vmap(jacrev(Cosine(gradient=ddn.UnrolledGradient(steps=60))))(x)
    torch.testing.assert_close(many, exact, rtol=1e-10, atol=1e-10)


def test_newton_as_iteration_is_exact_in_one_step():
    class Newtonian(Cosine):
        def iteration(self, x, y):
            return y - (y - x * y.cos()) / (1 + x * y.sin())

    x = torch.tensor(0.7, dtype=torch.float64)
    one = jacrev(Newtonian(gradient=ddn.OneStepGradient()))(x)
    torch.testing.assert_close(one, jacrev(Cosine())(x))


def test_iteration_with_another_fixed_point_is_refused():
    class Mistaken(Cosine):
        def iteration(self, x, y):
            return x * y.sin()

    node = Mistaken(gradient=ddn.UnrolledGradient(steps=3))
    with pytest.raises(SignatureError, match="fixed point"):
        node(torch.tensor(0.5, dtype=torch.float64))


def test_unconstrained_gradient_is_minus_inverse_hessian():
    """For the entropy problem H = diag(1/y): dy = diag(y) dx, without the normalisation."""
    x = torch.randn(2, 3, dtype=torch.float64)
    node = Entropy(gradient=ddn.UnconstrainedGradient())
    expected = torch.diag_embed(torch.softmax(x, -1))
    torch.testing.assert_close(vmap(jacrev(node))(x), expected)
    torch.testing.assert_close(vmap(jacfwd(node))(x), expected)
    multipliers = jacrev(lambda x: node.solution(x).equality_multipliers)(x[0])
    assert not multipliers.any()


def test_second_derivatives_of_the_unconstrained_gradient_are_refused():
    node = Entropy(gradient=ddn.UnconstrainedGradient())
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(node(x)[0], x, create_graph=True)
    with pytest.raises(DerivativeError, match="first order"):
        gradient.sum().backward()


def test_failures_are_reported(dtype):
    x = torch.tensor([[0.0, 1.0], [torch.nan, 0.0]], dtype=dtype)
    with pytest.raises(SolveError, match=r"batch element\(s\) 1"):
        Entropy(gradient=ddn.UnrolledGradient(steps=2))(x)


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_are_positive(steps):
    with pytest.raises(ValueError, match="steps"):
        ddn.UnrolledGradient(steps=steps)


def test_linear_problems_have_no_curvature():
    """At the vertex of a linear program nothing is free: any step length is exact."""
    node = make_node("(n)->(n)", lambda c, y: c @ y, solve=lambda c: -c.sign())
    type(node).bounds = lambda self, c: (-1.0, 1.0)
    node.gradient = ddn.OneStepGradient()
    jacobian = jacrev(node)(torch.tensor([1.0, -2.0], dtype=torch.float64))
    torch.testing.assert_close(jacobian, torch.zeros_like(jacobian), rtol=0, atol=1e-12)
