"""Nodes that bring their own derivative."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.func import grad, jacfwd, jacrev, jvp, vjp, vmap

import ddn
from ddn.errors import ShapeError, SignatureError
from tests.ddn.problems import Entropy, Ridge, ridge, softmax


class Softmax(Entropy):
    """Entropy projection in closed form; the exponentials are kept for the derivative."""

    def solve_and_save(self, x):
        exponentials = (x - x.amax(-1, keepdim=True)).exp()
        total = exponentials.sum(-1, keepdim=True)
        return exponentials / total, (total,)

    def vjp(self, inputs, y, grad_y, *saved):
        assert all(part.shape == (*y.shape[:-1], 1) for part in saved)
        return y * (grad_y - (y * grad_y).sum(-1, keepdim=True))


class ClosedRidge(Ridge):
    """Ridge regression by Cholesky, without a gradient for r."""

    def solve(self, A, b, r):
        assert A.shape[:-2] == b.shape[:-1] == r.shape
        return ridge(A, b, r)

    def vjp(self, inputs, y, grad_y):
        A, b, r = inputs
        identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        system = A.mT @ A + r[..., None, None] * identity
        w = torch.cholesky_solve(grad_y.unsqueeze(-1), torch.linalg.cholesky(system))
        y = y.unsqueeze(-1)
        residual = b.unsqueeze(-1) - A @ y
        return residual @ w.mT - (A @ w) @ y.mT, (A @ w).squeeze(-1), None


class TwoBlocks(ddn.DeclarativeNode):
    """argmin ½ ‖U − 2 x‖² + ½ (s − Σx)²."""

    signature = "(n)->(n),()"

    def objective(self, x, U, s):
        return 0.5 * (U - 2 * x).square().sum() + 0.5 * (s - x.sum()).square()

    def solve(self, x):
        return 2 * x, x.sum(-1)

    def vjp(self, inputs, y, grad_y):
        U, s = grad_y
        return 2 * U + s.unsqueeze(-1)


def check(actual, expected, bound):
    actual, expected = (torch.utils._pytree.tree_leaves(tree) for tree in (actual, expected))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=bound, atol=bound)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_composition(order, device, dtype, tolerance):
    x = torch.randn(3, device=device, dtype=dtype)
    for transforms in itertools.product((jacfwd, jacrev), repeat=order):
        node, reference = Softmax(), softmax
        for transform in transforms:
            node, reference = transform(node), jacrev(reference)
        check(node(x), reference(x), tolerance.second_order)


def test_agrees_with_the_engine(device, dtype, tolerance):
    x = torch.randn(4, 3, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn(4, 3, device=device, dtype=dtype)
    by_engine = Softmax(gradient=ddn.ImplicitGradient())(x)
    check(
        torch.autograd.grad((Softmax()(x) * weight).sum(), x),
        torch.autograd.grad((by_engine * weight).sum(), x),
        tolerance.gradient,
    )


def test_solution_uses_the_engine(device, dtype, tolerance):
    x = torch.randn(4, 3, device=device, dtype=dtype)
    solution = Softmax().solution(x)
    check(solution.equality_multipliers[:, 0], torch.logsumexp(x, -1) - 1, tolerance.solver)


def test_solver_beside_a_vjp(device, dtype, tolerance):
    """The derivative is the node's own, whoever finds the solution."""
    x = torch.randn(2, 3, device=device, dtype=dtype)
    node = Softmax(solver=ddn.solvers.Newton())
    check(jacrev(node)(x[0]), jacrev(softmax)(x[0]), tolerance.solver)


@pytest.mark.parametrize("shape", [(4, 2), (1, 4, 2), (5, 1, 4, 2)])
def test_shared_inputs(shape, device, dtype, tolerance):
    A = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    b = torch.randn(3, 4, device=device, dtype=dtype, requires_grad=True)
    r = torch.tensor(0.5, device=device, dtype=dtype)
    actual = torch.autograd.grad(ClosedRidge()(A, b, r).square().sum(), [A, b])
    check(actual, torch.autograd.grad(ridge(A, b, r).square().sum(), [A, b]), tolerance.gradient)


def test_input_without_gradient(device, dtype):
    """None from vjp is a zero derivative in every mode."""
    A = torch.randn(4, 2, device=device, dtype=dtype)
    b = torch.randn(4, device=device, dtype=dtype)
    r = torch.tensor(0.5, device=device, dtype=dtype)
    node = ClosedRidge()
    assert not jacfwd(node, argnums=2)(A, b, r).any()
    assert not jacrev(node, argnums=2)(A, b, r).any()


@pytest.mark.parametrize("in_dims", [(2, None, None), (None, 1, 0), (0, 0, None)])
def test_vmap(in_dims, device, dtype, tolerance):
    inputs = [
        torch.randn(4, 2, device=device, dtype=dtype),
        torch.randn(4, device=device, dtype=dtype),
        torch.tensor(0.7, device=device, dtype=dtype),
    ]
    for position, dim in enumerate(in_dims):
        if dim is not None:
            stacked = torch.stack([inputs[position] * (1 + 0.1 * i) for i in range(5)])
            inputs[position] = stacked.movedim(0, dim)
    check(vmap(ClosedRidge(), in_dims)(*inputs), vmap(ridge, in_dims)(*inputs), tolerance.value)
    gradients = [
        vmap(grad(lambda *i, f=function: f(*i).square().sum(), argnums=(0, 1)), in_dims)(*inputs)
        for function in (ClosedRidge(), ridge)
    ]
    check(*gradients, tolerance.gradient)


def test_shared_cotangents(device, dtype, tolerance):
    x = torch.randn(4, 3, device=device, dtype=dtype)
    v = torch.randn(5, 3, device=device, dtype=dtype)
    for pull in (
        lambda f: vmap(lambda x: vjp(f, x)[1](v[0])[0])(x),
        lambda f: vmap(lambda v: vmap(lambda x: vjp(f, x)[1](v)[0])(x))(v),
        lambda f: vmap(lambda v: vmap(lambda x: jvp(f, (x,), (v,))[1])(x))(v),
    ):
        check(pull(Softmax()), pull(softmax), tolerance.gradient)


def test_several_blocks(device, dtype, tolerance):
    x = torch.randn(2, 3, device=device, dtype=dtype)
    node, engine = TwoBlocks(), TwoBlocks(gradient=ddn.ImplicitGradient())
    check(node(x), (2 * x, x.sum(-1)), tolerance.value)
    for transform in (jacrev, jacfwd):
        check(transform(node)(x), transform(engine)(x), tolerance.gradient)


def test_finite_differences():
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    for node in (Softmax(), TwoBlocks()):
        assert torch.autograd.gradcheck(node, x, check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(
            node, x, check_fwd_over_rev=True, check_rev_over_rev=True
        )


class Broken(Softmax):
    """A vjp with a gradient too many."""

    def vjp(self, inputs, y, grad_y, *saved):
        return grad_y, grad_y


def test_vjp_with_wrong_number_of_gradients():
    x = torch.zeros(3, requires_grad=True)
    with pytest.raises(SignatureError, match=r"vjp must return one gradient .* 1, but returned 2"):
        Broken()(x).sum().backward()


class WrongShape(Softmax):
    """A vjp whose gradient has the shape of something else."""

    def vjp(self, inputs, y, grad_y, *saved):
        return grad_y.sum(-1)


def test_vjp_with_gradient_of_wrong_shape():
    x = torch.zeros(4, 3, requires_grad=True)
    with pytest.raises((ShapeError, SignatureError), match="vjp"):
        WrongShape()(x).sum().backward()


class WrongSave(Softmax):
    """A solve_and_save whose solution has the wrong shape."""

    def solve_and_save(self, x):
        return x[..., :2], ()


def test_saving_solve_of_wrong_shape():
    with pytest.raises(ShapeError, match="solve_and_save must return"):
        WrongSave()(torch.zeros(4, 3))


class FirstProblemOnly(ddn.DeclarativeNode):
    """A vjp that returns the gradient of the first problem for a shared input."""

    signature = "(n),(n)->(n)"

    def objective(self, shift, x, y):
        return 0.5 * (y - x - shift).square().sum()

    def solve(self, shift, x):
        return shift + x

    def vjp(self, inputs, y, grad_y):
        return grad_y[0], grad_y


def test_vjp_that_does_not_sum_a_shared_input():
    shift = torch.zeros(3, requires_grad=True)
    y = FirstProblemOnly()(shift, torch.zeros(4, 3))
    with pytest.raises(ShapeError, match="input 0"):
        y.sum().backward()
