"""The implicit function under every transform, against closed forms in torch operations.

References take reverse mode only where they factorize: second-order forward mode through
``torch.linalg.solve`` is wrong in torch 2.13.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import ddn
from tests.ddn.problems import Affine, Entropy, EqualityQP, Ridge, make_node, ridge, softmax


def check(actual, expected, bound):
    actual, expected = (torch.utils._pytree.tree_leaves(tree) for tree in (actual, expected))
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=bound, atol=bound)


COMPOSITIONS = [c for order in (1, 2, 3) for c in itertools.product((jacfwd, jacrev), repeat=order)]


@pytest.mark.parametrize("transforms", COMPOSITIONS, ids=lambda c: "_".join(t.__name__ for t in c))
def test_every_composition_up_to_third_order(transforms, device, dtype, tolerance):
    node, reference = Entropy(), softmax
    for transform in reversed(transforms):
        node, reference = transform(node), jacrev(reference)
    x = torch.randn(3, device=device, dtype=dtype)
    check(
        node(x),
        reference(x),
        tolerance.gradient if len(transforms) == 1 else tolerance.second_order,
    )


def ridge_inputs(device, dtype):
    return (
        torch.randn(4, 2, device=device, dtype=dtype),
        torch.randn(4, device=device, dtype=dtype),
        torch.tensor(0.7, device=device, dtype=dtype),
    )


@pytest.mark.parametrize(
    "transforms", COMPOSITIONS[:6], ids=lambda c: "_".join(t.__name__ for t in c)
)
def test_several_inputs(transforms, device, dtype, tolerance):
    """All blocks of the derivative with respect to three inputs, mixed ones among them."""
    node, reference = Ridge(), ridge
    for transform in reversed(transforms):
        node, reference = transform(node, argnums=(0, 1, 2)), jacrev(reference, argnums=(0, 1, 2))
    inputs = ridge_inputs(device, dtype)
    bound = tolerance.gradient if len(transforms) == 1 else tolerance.second_order
    check(node(*inputs), reference(*inputs), bound)


def test_hessian(device, dtype, tolerance):
    x = torch.randn(5, 3, device=device, dtype=dtype)

    def by_node(x):
        return (Entropy()(x) ** 3).sum()

    def by_softmax(x):
        return (softmax(x) ** 3).sum()

    check(vmap(hessian(by_node))(x), vmap(hessian(by_softmax))(x), tolerance.second_order)
    check(hessian(by_node)(x), hessian(by_softmax)(x), tolerance.second_order)


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_jacobian_of_a_batch(transform, device, dtype, tolerance):
    x = torch.randn(2, 3, device=device, dtype=dtype)
    check(transform(Entropy())(x), jacrev(softmax)(x), tolerance.gradient)


def test_derivatives_of_multipliers(device, dtype, tolerance):
    """λ = logsumexp(x) − 1 in value and every derivative."""

    def multipliers(x):
        return Entropy().solution(x).equality_multipliers[..., 0]

    x = torch.randn(2, 3, device=device, dtype=dtype)
    tangent = torch.randn(2, 3, device=device, dtype=dtype)
    known = jvp(lambda x: torch.logsumexp(x, -1) - 1, (x,), (tangent,))
    check(jvp(multipliers, (x,), (tangent,)), known, tolerance.solver)
    for outer, inner in itertools.product((jacfwd, jacrev), repeat=2):
        check(
            outer(inner(multipliers))(x[0]),
            hessian(lambda x: torch.logsumexp(x, -1))(x[0]),
            tolerance.second_order,
        )


def test_joint_loss_of_solution_and_multipliers(device, dtype, tolerance):
    x = torch.randn(2, 3, device=device, dtype=dtype, requires_grad=True)
    solution = Entropy().solution(x)
    loss = (solution.y**2 * solution.equality_multipliers).sum()
    known = (softmax(x) ** 2 * (torch.logsumexp(x, -1, keepdim=True) - 1)).sum()
    check(torch.autograd.grad(loss, x), torch.autograd.grad(known, x), tolerance.solver)


@pytest.mark.parametrize("in_dims", [(2, 1, None), (0, None, 0), (None, 0, None), (-1, 1, 0)])
@pytest.mark.parametrize("out_dims", [0, 1, -1])
def test_vmap_in_odd_positions(in_dims, out_dims, device, dtype, tolerance):
    inputs = list(ridge_inputs(device, dtype))
    for position, dim in enumerate(in_dims):
        if dim is not None:
            value = inputs[position]
            stacked = torch.stack([value * (1 + 0.1 * i) for i in range(5)])
            inputs[position] = stacked.movedim(0, dim)
    actual = vmap(Ridge(), in_dims=in_dims, out_dims=out_dims)(*inputs)
    check(actual, vmap(ridge, in_dims=in_dims, out_dims=out_dims)(*inputs), tolerance.value)


def test_vmap_over_part_of_a_batch(device, dtype, tolerance):
    """The mapped dimension joins batch dimensions that broadcast."""
    A = torch.randn(3, 6, 4, 2, device=device, dtype=dtype)
    b = torch.randn(6, 1, 4, device=device, dtype=dtype)
    r = torch.rand(3, device=device, dtype=dtype) + 0.5
    actual = vmap(Ridge(), in_dims=(1, 0, None))(A, b, r)
    expected = torch.stack([Ridge()(A[:, i], b[i], r) for i in range(6)])
    check(actual, expected, tolerance.value)


def test_nested_vmap(device, dtype, tolerance):
    A = torch.randn(3, 4, 2, device=device, dtype=dtype)
    b = torch.randn(5, 4, device=device, dtype=dtype)
    r = torch.tensor(0.5, device=device, dtype=dtype)
    node = vmap(vmap(Ridge(), (None, 0, None)), (0, None, None))
    check(
        node(A, b, r), vmap(vmap(ridge, (None, 0, None)), (0, None, None))(A, b, r), tolerance.value
    )


def maps(function):
    """Compositions of vmap with one derivative, where cotangent or tangent is shared or mapped."""
    return {
        "vmap grad": lambda x, v: vmap(grad(lambda x: (function(x) ** 2).sum()))(x),
        "vmap vjp, shared cotangent": lambda x, v: vmap(lambda x: vjp(function, x)[1](v[0])[0])(x),
        "vmap vjp": vmap(lambda x, v: vjp(function, x)[1](v)[0]),
        "vmap jvp, shared tangent": lambda x, v: vmap(lambda x: jvp(function, (x,), (v[0],)))(x),
        "vmap jvp": vmap(lambda x, v: jvp(function, (x,), (v,))),
        "vmap over cotangents": lambda x, v: vmap(vjp(function, x)[1])(torch.stack([v, 2 * v])),
        "outer product, vjp": lambda x, v: vmap(
            lambda v: vmap(lambda x: vjp(function, x)[1](v)[0])(x)
        )(v),
        "outer product, jvp": lambda x, v: vmap(
            lambda v: vmap(lambda x: jvp(function, (x,), (v,))[1])(x)
        )(v),
        "vmap jacrev": lambda x, v: vmap(jacrev(function))(x),
        "vmap jacfwd": lambda x, v: vmap(jacfwd(function))(x),
        "grad of shared vjp": lambda x, v: grad(
            lambda x: vmap(lambda x: vjp(function, x)[1](v[0])[0])(x).square().sum()
        )(x),
        "grad of outer product": lambda x, v: grad(
            lambda v: vmap(lambda v: vmap(lambda x: vjp(function, x)[1](v)[0])(x))(v).square().sum()
        )(v),
    }


@pytest.mark.parametrize("name", maps(softmax))
def test_vmap_with_derivatives(name, device, dtype, tolerance):
    x = torch.randn(4, 3, device=device, dtype=dtype)
    v = torch.randn(4, 3, device=device, dtype=dtype)
    check(maps(Entropy())[name](x, v), maps(softmax)[name](x, v), tolerance.second_order)


def test_finite_differences():
    """Every mode of gradcheck, with float64 whatever the option says: it needs the digits."""
    torch.manual_seed(1)
    A, b, r = (value.requires_grad_() for value in ridge_inputs("cpu", torch.float64))
    inputs = (torch.stack([A, 2 * A]).detach().requires_grad_(), b, r)
    assert torch.autograd.gradcheck(Ridge(), inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(
        Ridge(), inputs, check_fwd_over_rev=True, check_rev_over_rev=True
    )


def test_finite_differences_with_constraints():
    """All inputs of an equality-constrained program; A and b enter through the constraint alone."""
    root = torch.randn(3, 3, dtype=torch.float64)
    inputs = [
        root @ root.mT + torch.eye(3, dtype=torch.float64),
        torch.randn(3, dtype=torch.float64),
        torch.randn(2, 1, 3, dtype=torch.float64),
        torch.randn(2, 1, dtype=torch.float64),
    ]
    inputs = [value.requires_grad_() for value in inputs]

    def both(*inputs):
        solution = EqualityQP().solution(*inputs)
        return solution.y, solution.equality_multipliers

    assert torch.autograd.gradcheck(both, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(both, inputs, check_fwd_over_rev=True)


def test_inputs_that_need_no_gradient(device, dtype, tolerance):
    A, b, r = ridge_inputs(device, dtype)
    for needed in itertools.product((False, True), repeat=3):
        inputs = [v.clone().requires_grad_(n) for v, n in zip((A, b, r), needed, strict=True)]
        y = Ridge()(*inputs)
        assert y.requires_grad == any(needed)
        wanted = [v for v in inputs if v.requires_grad]
        if wanted:
            check(
                torch.autograd.grad(y.sum(), wanted),
                torch.autograd.grad(ridge(*inputs).sum(), wanted),
                tolerance.gradient,
            )


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_unused_input_has_zero_gradient(transform, device, dtype):
    node = make_node("(n),(k)->(n)", lambda x, unused, y: (y - x).square().sum())
    x, unused = (torch.randn(size, device=device, dtype=dtype) for size in (3, 2))
    assert not transform(node, argnums=1)(x, unused).any()
    unused.requires_grad_()
    (gradient,) = torch.autograd.grad(node(x, unused).sum(), unused)
    assert not gradient.any()


def test_ensemble_of_parameters(device, dtype, tolerance):
    """functional_call under vmap: one node, many parameter sets; and per-sample gradients."""
    models = [Affine().to(device, dtype) for _ in range(4)]
    x = torch.randn(5, 3, device=device, dtype=dtype)
    state, buffers = torch.func.stack_module_state(models)
    base = models[0]
    expected = torch.stack([model.closed_form(x) for model in models])
    check(
        vmap(lambda p, b: functional_call(base, (p, b), (x,)))(state, buffers),
        expected,
        tolerance.value,
    )
    check(vmap(lambda p: functional_call(base, p, (x,)))(state), expected, tolerance.value)

    def loss(parameters, x):
        return (functional_call(base, parameters, (x,)) ** 2).sum()

    def reference(parameters, x):
        linear = 2 * nn.functional.linear(x, parameters["linear.weight"], parameters["linear.bias"])
        return (linear**2).sum()

    for function in (
        lambda loss: vmap(grad(loss), (0, None))(state, x),
        lambda loss: vmap(grad(loss), (None, 0))(dict(base.named_parameters()), x),
        lambda loss: vmap(vmap(grad(loss), (None, 0)), (0, None))(state, x),
        lambda loss: jacfwd(grad(loss))(dict(base.named_parameters()), x),
        lambda loss: hessian(loss)(dict(base.named_parameters()), x),
    ):
        check(function(loss), function(reference), tolerance.second_order)


def test_legacy_functional_api(device, dtype, tolerance):
    x = torch.randn(2, 3, device=device, dtype=dtype)
    for function in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        scalar = function is torch.autograd.functional.hessian
        node = (lambda x: (Entropy()(x) ** 3).sum()) if scalar else Entropy()
        reference = (lambda x: (softmax(x) ** 3).sum()) if scalar else softmax
        check(function(node, x), function(reference, x), tolerance.second_order)


def test_chained_solutions(device, dtype, tolerance):
    """A node's output is another node's input, at every order."""

    def chain(x):
        return Entropy()(3 * Entropy()(x))

    def reference(x):
        return softmax(3 * softmax(x))

    x = torch.randn(3, device=device, dtype=dtype)
    for outer, inner in itertools.product((jacfwd, jacrev), repeat=2):
        check(outer(inner(chain))(x), jacrev(jacrev(reference))(x), tolerance.second_order)


class Annealed(ddn.DeclarativeNode):
    """argmin t Σ y⁴ + ‖y − x‖²  s.t.  Σ y = 1 or y ≤ 1, with t a plain attribute."""

    signature = "(n)->(n)"

    def __init__(self, temperature, **options):
        super().__init__(**options)
        self.temperature = temperature

    def objective(self, x, y):
        return self.temperature * y.pow(4).sum() + (y - x).square().sum()


class AnnealedAtMost(Annealed):
    def inequality(self, x, y):
        return y - 0.5


@pytest.mark.parametrize("make", [Annealed, AnnealedAtMost])
def test_attributes_count_as_they_were_when_the_problem_was_solved(make, device, dtype, tolerance):
    x = torch.rand(2, 3, device=device, dtype=dtype, requires_grad=True)

    def derivatives(change):
        node = make(1.0)
        y = node(x)
        change(node)
        (first,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
        node.temperature = 7.0
        (second,) = torch.autograd.grad(first.pow(2).sum(), x)
        assert node.temperature == 7
        return first.detach(), second

    found = derivatives(lambda node: setattr(node, "temperature", 100.0))
    node = make(1.0)
    (first,) = torch.autograd.grad(node(x).pow(2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), x)
    for one, other in zip(found, (first.detach(), second), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance.gradient, atol=tolerance.gradient)
