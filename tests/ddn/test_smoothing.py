"""Derivatives of the central path in place of those of the solution."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.func import hessian, jacfwd, jacrev, vmap

import ddn
from ddn.errors import SingularSystemError
from tests.ddn.problems import Entropy, make_node
from tests.ddn.test_inequality import Ball, Box

KAPPA = 0.05


def relu_on_the_path(x):
    """argmin ½ (y − x)² − κ log y: the positive root of y² − x y = κ."""
    return (x + (x**2 + 4 * KAPPA).sqrt()) / 2


class Relu(ddn.DeclarativeNode):
    """argmin ½ ‖y − x‖² s.t. y ≥ 0."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        return 0.5 * (y - x).square().sum()

    def bounds(self, x):
        return 0.0, None


def test_value_is_exact_and_derivatives_are_those_of_the_path():
    x = torch.tensor([[0.0, -1.0, 2.0], [0.3, 0.0, -0.2]], dtype=torch.float64)
    node = Relu(gradient=ddn.ImplicitGradient(smoothing=KAPPA))
    torch.testing.assert_close(node(x), x.relu(), rtol=0, atol=1e-12)
    close = {"rtol": 1e-9, "atol": 1e-9}
    for derivative in (jacrev, jacfwd, hessian):
        expected = vmap(derivative(relu_on_the_path))(x)
        torch.testing.assert_close(vmap(derivative(node))(x), expected, **close)
    variable = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(node(variable).sum(), variable)
    (expected,) = torch.autograd.grad(relu_on_the_path(variable).sum(), variable)
    torch.testing.assert_close(found, expected, **close)


def test_multipliers_are_exact_with_derivatives_of_the_path():
    """On the path ν = κ/y."""
    x = torch.tensor([0.0, -1.0, 2.0], dtype=torch.float64)
    node = Relu(gradient=ddn.ImplicitGradient(smoothing=KAPPA))
    multipliers = node.solution(x).lower_multipliers
    torch.testing.assert_close(multipliers, (-x).relu(), rtol=0, atol=1e-12)
    found = jacrev(lambda x: node.solution(x).lower_multipliers)(x)
    expected = jacrev(lambda x: KAPPA / relu_on_the_path(x))(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_informative_at_the_vertex_of_a_linear_program():
    """argmin cᵀy s.t. |y| ≤ 1: the exact derivative is zero, the smooth one is not."""
    node = make_node("(n)->(n)", lambda c, y: c @ y, solve=lambda c: -c.sign())
    type(node).bounds = lambda self, c: (-1.0, 1.0)
    c = torch.tensor([1.0, -0.2], dtype=torch.float64)
    assert not jacrev(node)(c).any()
    node.gradient = ddn.ImplicitGradient(smoothing=KAPPA)
    # c = κ/(1 − y) − κ/(1 + y), hence dc/dy = κ/(1 − y)² + κ/(1 + y)² with y of the sign of −c.
    y = KAPPA / c - (1 + (KAPPA / c) ** 2).sqrt() * c.sign()
    slope = -1 / (KAPPA / (1 - y) ** 2 + KAPPA / (1 + y) ** 2)
    torch.testing.assert_close(jacrev(node)(c), torch.diag(slope), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("radius", [0.5, 5.0])
def test_nonlinear_inequality(radius):
    """The derivative against finite differences of the path itself."""
    x = torch.tensor([0.7, -0.4], dtype=torch.float64)
    r = torch.tensor(radius, dtype=torch.float64)
    node = Ball(gradient=ddn.ImplicitGradient(smoothing=KAPPA))

    def path(x):
        bound = Ball().bind(x, r)
        solver = ddn.solvers.InteriorPoint(barrier=KAPPA)
        return solver.solve(bound.problem, bound.operands).y

    step = 1e-5
    eye = torch.eye(2, dtype=torch.float64)
    differences = [(path(x + step * e) - path(x - step * e)) / (2 * step) for e in eye]
    found = jacrev(node)(x, r)
    torch.testing.assert_close(found, torch.stack(differences, -1), rtol=1e-6, atol=1e-7)


def test_tends_to_the_exact_derivative():
    x = torch.tensor([-0.5, 0.2, 3.0], dtype=torch.float64)
    box = (torch.zeros_like(x), torch.ones_like(x))
    exact = jacrev(Box())(x, *box)
    errors = [
        float(
            (jacrev(Box(gradient=ddn.ImplicitGradient(smoothing=k)))(x, *box) - exact).abs().max()
        )
        for k in (1e-2, 1e-4, 1e-6)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_no_effect_without_inequalities(dtype):
    x = torch.randn(3, dtype=dtype)
    smooth = Entropy(gradient=ddn.ImplicitGradient(smoothing=1.0))
    torch.testing.assert_close(jacrev(smooth)(x), jacrev(Entropy())(x), rtol=0, atol=0)
    assert gradcheck(smooth, x.double().requires_grad_())


def test_no_interior_is_an_error():
    """l = u leaves no room for a path."""
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    half = torch.full((2,), 0.5, dtype=torch.float64)
    node = Box(gradient=ddn.ImplicitGradient(smoothing=0.1))
    with pytest.raises(SingularSystemError, match="no interior"):
        node(x, half, half)


@pytest.mark.parametrize("smoothing", [-1.0, float("nan")])
def test_smoothing_is_not_negative(smoothing):
    with pytest.raises(ValueError, match="smoothing"):
        ddn.ImplicitGradient(smoothing=smoothing)
