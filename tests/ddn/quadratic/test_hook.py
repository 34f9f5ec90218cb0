"""Nodes of users that state their matrices, too."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

import ddn
from ddn.errors import SignatureError, UndeclaredTensorError


class Portfolio(ddn.DeclarativeNode):
    """argmin ½ γ yᵀΣy − rᵀy s.t. Σ y = 1, y ≥ 0, with a parameter γ > 0."""

    signature = "(n,n),(n)->(n)"

    def __init__(self, **options):
        super().__init__(**options)
        self.aversion = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def objective(self, covariance, returns, y):
        return 0.5 * self.aversion * y @ covariance @ y - returns @ y

    def equality(self, covariance, returns, y):
        return y.sum().unsqueeze(0) - 1

    def bounds(self, covariance, returns):
        return 0, None

    def quadratic_program(self, covariance, returns):
        ones = torch.ones_like(returns[..., None, :])
        return ddn.QuadraticData(
            self.aversion * covariance,
            -returns,
            A=ones,
            b=ones[..., 0],
            lower=torch.zeros_like(returns),
        )


class WithoutMatrices(Portfolio):
    quadratic_program = None


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(3, 5, 5, generator=generator, dtype=torch.float64)
    returns = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    covariance = factor @ factor.mT + torch.eye(5, dtype=torch.float64)
    return covariance.requires_grad_(), returns.requires_grad_()


def test_value_and_gradients_are_those_without_matrices(tolerance):
    inputs, cotangent = data(), torch.randn(3, 5, dtype=torch.float64)
    found = []
    for node in (Portfolio(), WithoutMatrices()):
        y = node(*inputs)
        found.append((y, *torch.autograd.grad(y, (*inputs, node.aversion), cotangent)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_derivatives_of_both_orders():
    covariance, returns = data(1)
    node = Portfolio()
    assert gradcheck(node, (covariance, returns))
    assert gradgradcheck(lambda returns: node(covariance, returns), (returns,))


@pytest.mark.parametrize(
    "solver",
    [ddn.solvers.DAQP(), ddn.solvers.PIQP(), ddn.solvers.InteriorPoint()],
    ids=lambda solver: type(solver).__name__,
)
def test_solvers_for_quadratic_programs_serve_it(solver, tolerance):
    inputs = data(2)
    torch.testing.assert_close(
        Portfolio(solver=solver)(*inputs),
        WithoutMatrices()(*inputs),
        rtol=tolerance.solver,
        atol=tolerance.solver,
    )


@pytest.mark.parametrize("solver", [ddn.solvers.DAQP(), ddn.solvers.PIQP()], ids=repr)
def test_a_node_without_matrices_is_refused_by_them(solver):
    with pytest.raises(SignatureError, match="define `quadratic_program`"):
        WithoutMatrices(solver=solver)(*data())


def test_matrices_that_say_something_else_are_an_error():
    class Wrong(Portfolio):
        def quadratic_program(self, covariance, returns):
            right = super().quadratic_program(covariance, returns)
            return ddn.QuadraticData(**{**right.parts(), "Q": 2 * right.Q})

    class WrongSign(Portfolio):
        def quadratic_program(self, covariance, returns):
            right = super().quadratic_program(covariance, returns)
            return ddn.QuadraticData(**{**right.parts(), "A": -right.A})

    class WrongBound(Portfolio):
        def quadratic_program(self, covariance, returns):
            right = super().quadratic_program(covariance, returns)
            return ddn.QuadraticData(**{**right.parts(), "lower": right.lower - 1})

    for node, function in ((Wrong, "objective"), (WrongSign, "equality"), (WrongBound, "bounds")):
        with pytest.raises(SignatureError, match=f"not describe the same problem as .*{function}"):
            node()(*data())


def test_matrices_that_are_none_are_an_error():
    class Nothing(Portfolio):
        def quadratic_program(self, covariance, returns):
            return covariance, returns

    with pytest.raises(SignatureError, match=r"must return ddn\.QuadraticData"):
        Nothing()(*data())


def test_a_matrix_from_outside_is_an_error():
    outside = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    class Closure(Portfolio):
        def quadratic_program(self, covariance, returns):
            right = super().quadratic_program(covariance, returns)
            return ddn.QuadraticData(**{**right.parts(), "Q": right.Q * outside / 2})

    with pytest.raises(UndeclaredTensorError, match="quadratic_program depends on a tensor"):
        Closure()(*data())


def test_the_shared_contract():
    ddn.testing.check_node(Portfolio(), *data(3))


class Projection(ddn.DeclarativeNode):
    """argmin ½ ‖y − x‖² s.t. y ≥ 0, with matrices that a test replaces."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        return 0.5 * (y - x).square().sum()

    def bounds(self, x):
        return 0, None

    def quadratic_program(self, x):
        identity = torch.eye(x.shape[-1], dtype=x.dtype)
        return ddn.QuadraticData(identity, self.linear(x), lower=torch.zeros_like(x))

    def linear(self, x):
        return -x


@pytest.mark.parametrize(
    "linear",
    [
        lambda x: -x + x.sum() - x.sum(-1, keepdim=True),
        lambda x: -x if x.ndim == 1 else x.mean(0) - 2 * x,
    ],
    ids=["total", "mean"],
)
def test_matrices_that_mix_the_problems_of_a_batch_are_an_error(linear):
    node = type("Mixed", (Projection,), {"linear": lambda self, x: linear(x)})()
    with pytest.raises(SignatureError, match="problems of a batch are not mixed"):
        node(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64))


@pytest.mark.parametrize(
    "linear",
    [lambda x: -x.detach(), lambda x: -torch.tensor(x.tolist(), dtype=x.dtype)],
    ids=["detached", "copied"],
)
def test_matrices_that_lose_the_derivative_are_an_error(linear):
    node = type("Cut", (Projection,), {"linear": lambda self, x: linear(x)})()
    with pytest.raises(SignatureError, match="its derivative differs"):
        node(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64))


def test_matrices_that_are_right_for_the_first_inputs_only_are_an_error():
    class Bent(Projection):
        def objective(self, x, y):
            return 0.5 * (y - x.square()).square().sum()

    with pytest.raises(SignatureError, match="quadratic_program does not"):
        Bent()(torch.ones(3, dtype=torch.float64))


def test_what_could_not_be_compared_is_compared_later():
    class Wrong(Projection):
        def linear(self, x):
            return -2 * x

    node = Wrong(on_failure="nan")
    x = torch.full((3,), torch.nan, dtype=torch.float64)
    assert node(x).isnan().all()
    with pytest.raises(SignatureError, match="not describe the same problem"):
        node(torch.ones(3, dtype=torch.float64))
