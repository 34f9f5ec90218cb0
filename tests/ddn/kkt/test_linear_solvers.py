"""Every linear solver gives the same derivatives, to second order, on every kind of problem."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import jacfwd, jacrev, vmap

import ddn
from ddn.errors import DeclarativeNodeError, SingularSystemError
from ddn.kkt import (
    MINRES,
    Automatic,
    BlockDiagonal,
    Dense,
    HutchinsonDiagonal,
    ProjectedCG,
    SchurComplement,
)
from tests.ddn.problems import Entropy, EqualityQP, make_node
from tests.ddn.test_inequality import Ball, Box

SOLVERS = {
    "dense": Dense(),
    "schur": SchurComplement(),
    "blocks": BlockDiagonal(),
    "cg": ProjectedCG(),
    "cg, preconditioned": ProjectedCG(preconditioner=HutchinsonDiagonal()),
    "minres": MINRES(),
    "automatic": Automatic(),
    "automatic, no dense matrix": Automatic(dense_budget=0),
}
ITERATIVE = ("cg", "minres", "no dense")


class Coupled(ddn.DeclarativeNode):
    """A Hessian that is not diagonal, one nonlinear equality, bounds: softly coupled neighbours."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        return (y - x).cosh().sum() + 0.1 * (y[1:] - y[:-1]).square().sum()

    def equality(self, x, y):
        return y.sum() + 0.1 * (y @ y) - x.sum().tanh()

    def bounds(self, x):
        return -0.3, None


def problems():
    x = torch.tensor([[0.4, -0.7, 1.2], [-0.3, 0.1, 0.6]], dtype=torch.float64)
    half = torch.full((3,), 0.5, dtype=torch.float64)
    return {
        "unconstrained": (make_node("(n)->(n)", lambda x, y: (y - x).cosh().sum()), (x,)),
        "equality": (Entropy(), (x,)),
        "bounds": (Box(), (x, -half, half)),
        "ball": (Ball(), (x, torch.tensor(0.8, dtype=torch.float64))),
        "coupled": (Coupled(), (x,)),
    }


def fits(solver, problem):
    return not (solver == "blocks" and problem == "coupled")


CASES = [(s, p) for s in SOLVERS for p in problems() if fits(s, p)]


@pytest.mark.parametrize(("solver", "problem"), CASES)
def test_same_derivatives(solver, problem):
    node, inputs = problems()[problem]
    reference = [vmap(d(node), in_dims=(0, *(None,) * (len(inputs) - 1))) for d in (jacrev, jacfwd)]
    expected = [function(*inputs) for function in reference]
    node.gradient = ddn.ImplicitGradient(linear_solver=SOLVERS[solver])
    tolerance = 1e-7 if any(name in solver for name in ITERATIVE) else 1e-10
    for function, value in zip(reference, expected, strict=True):
        torch.testing.assert_close(function(*inputs), value, rtol=tolerance, atol=tolerance)
    variables = tuple(x.clone().requires_grad_() for x in inputs)
    assert gradcheck(node, variables, check_forward_ad=True, fast_mode=True, nondet_tol=1e-8)
    assert gradgradcheck(node, variables, fast_mode=True, nondet_tol=1e-8)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "blocks"])
def test_smoothing(solver):
    """Rows of the barrier have an entry on the diagonal."""
    node, inputs = problems()["coupled"]
    node.gradient = ddn.ImplicitGradient(smoothing=0.01)
    expected = vmap(jacrev(node))(*inputs)
    node.gradient = ddn.ImplicitGradient(linear_solver=SOLVERS[solver], smoothing=0.01)
    torch.testing.assert_close(vmap(jacrev(node))(*inputs), expected, rtol=1e-6, atol=1e-6)


def test_blocks_that_are_none_are_an_error():
    node, (x,) = problems()["coupled"]
    node.gradient = ddn.ImplicitGradient(linear_solver=BlockDiagonal())
    with pytest.raises(DeclarativeNodeError, match="block"):
        jacrev(node)(x[0])


class Pairs(ddn.DeclarativeNode):
    """Coupled in pairs: blocks of two, declared by the node."""

    signature = "(n)->(n)"
    hessian_block_size = 2

    def objective(self, x, y):
        pairs = (y - x).reshape(-1, 2)
        return pairs.square().sum() + (pairs[:, 0] * pairs[:, 1]).sum() + y.square().sum()

    def equality(self, x, y):
        return y.sum() - 1


def test_declared_blocks():
    x = torch.randn(100, dtype=torch.float64)
    expected = jacrev(Pairs(gradient=ddn.ImplicitGradient(linear_solver=Dense())))(x)
    for solver in (BlockDiagonal(2), Automatic()):
        node = Pairs(gradient=ddn.ImplicitGradient(linear_solver=solver))
        torch.testing.assert_close(jacrev(node)(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_singular_systems_are_reported(solver):
    """A flat direction that the cotangent asks for."""
    x = torch.tensor([0.5, 0.2], dtype=torch.float64, requires_grad=True)
    node = make_node(
        "(n)->(n)",
        lambda x, y: (y[0] - x[0]) ** 2 + 0 * y[1],
        solve=lambda x: x.clone(),
        gradient=ddn.ImplicitGradient(linear_solver=SOLVERS[solver]),
    )
    with pytest.raises(SingularSystemError, match="gradient is not defined"):
        node(x).sum().backward()


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_singular_problem_leaves_the_others(solver):
    weight = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    x = torch.tensor([0.5, 0.2, -0.3], dtype=torch.float64, requires_grad=True)
    node = make_node(
        "(),()->()",
        lambda w, x, y: w * (y - x) ** 2,
        solve=lambda w, x: x.clone(),
        gradient=ddn.ImplicitGradient(linear_solver=SOLVERS[solver]),
        on_failure="nan",
    )
    (gradient,) = torch.autograd.grad(node(weight, x).sum(), x)
    torch.testing.assert_close(
        gradient, torch.tensor([1.0, torch.nan, 1.0], dtype=torch.float64), equal_nan=True
    )


def test_the_factorization_serves_all_passes_of_a_backward(monkeypatch):
    count = 0
    factorize = Dense.factorize

    def counted(self, system):
        nonlocal count
        count += 1
        return factorize(self, system)

    monkeypatch.setattr(Dense, "factorize", counted)
    node = Entropy(gradient=ddn.ImplicitGradient(linear_solver=Dense()))
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    y = node(x)
    (gradient,) = torch.autograd.grad(y[:, 0].sum(), x, create_graph=True)
    gradient[:, 1].sum().backward(retain_graph=True)
    for i in range(3):
        torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)
    assert count == 1


def test_quadratic_program_of_many_variables_without_a_dense_matrix():
    m = 300
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(m, m, generator=generator, dtype=torch.float64) / m**0.5
    Q = root @ root.mT + torch.eye(m, dtype=torch.float64)
    q = torch.randn(m, generator=generator, dtype=torch.float64, requires_grad=True)
    A = torch.randn(2, m, generator=generator, dtype=torch.float64)
    b = torch.zeros(2, dtype=torch.float64)
    gradients = []
    for solver in (Dense(), ProjectedCG(), MINRES()):
        node = EqualityQP(gradient=ddn.ImplicitGradient(linear_solver=solver))
        y = node(Q, q, A, b)
        gradients += torch.autograd.grad(y.square().sum(), q)
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-6, atol=1e-8)
