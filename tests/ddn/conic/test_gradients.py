"""Derivatives of every kind of cone program against finite differences, and every way to ask for them."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, jacfwd, jacrev, jvp, vjp, vmap

from ddn.conic import CvxpyNode
from ddn.errors import DerivativeError
from tests.ddn.conic.families import FAMILIES

BOUND = 1e-8  # solutions are polished to rounding, so that extrapolated differences are this good


def node_of(name, **options):
    family = FAMILIES[name]()
    return CvxpyNode(family.problem, family.parameters, family.variables, **options), family


def directions(family, values):
    """Random changes that keep symmetric parameters symmetric."""
    moved = []
    for parameter, value in zip(family.parameters, values, strict=True):
        change = torch.randn_like(value)
        if parameter.attributes["symmetric"] or parameter.attributes["PSD"]:
            change = change + change.mT
        moved.append(change)
    return tuple(moved)


def extrapolated_difference(function, values, change, step=1e-4):
    def central(h):
        ahead = function(*(v + h * d for v, d in zip(values, change, strict=True)))
        behind = function(*(v - h * d for v, d in zip(values, change, strict=True)))
        return (ahead - behind) / (2 * h)

    return (4 * central(step / 2) - central(step)) / 3


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_both_modes_against_finite_differences(name, batch):
    node, family = node_of(name)
    values = tuple(value.requires_grad_() for value in family.values(*batch))
    change = directions(family, values)
    y = node(*values)
    assert y.shape == (*batch, *family.variables[0].shape)
    weight = torch.randn_like(y)
    gradients = torch.autograd.grad((weight * y).sum(), values)
    with torch.no_grad():
        expected = extrapolated_difference(node, values, change)
    constants = tuple(value.detach() for value in values)
    _, tangent = jvp(node, constants, change)
    torch.testing.assert_close(tangent, expected, rtol=BOUND, atol=BOUND)
    slope = sum((g * d).sum() for g, d in zip(gradients, change, strict=True))
    torch.testing.assert_close(slope, (weight * expected).sum(), rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize("name", ["quadratic", "second_order", "entropy", "log_determinant"])
def test_duals_and_optimal_value_against_finite_differences(name):
    node, family = node_of(name)
    values = tuple(value.requires_grad_() for value in family.values())
    change = directions(family, values)

    def numbers(*given):
        solution = node.solution(*given)
        duals = [
            part.reshape(-1)
            for dual in solution.dual_values
            for part in (dual if isinstance(dual, tuple) else (dual,))
        ]
        return torch.cat([solution.optimal_value.reshape(1), *duals])

    found = numbers(*values)
    weight = torch.randn_like(found)
    gradients = torch.autograd.grad((weight * found).sum(), values)
    with torch.no_grad():
        expected = extrapolated_difference(numbers, values, change)
    slope = sum((g * d).sum() for g, d in zip(gradients, change, strict=True))
    torch.testing.assert_close(slope, (weight * expected).sum(), rtol=BOUND, atol=BOUND)
    _, tangent = jvp(numbers, tuple(value.detach() for value in values), change)
    torch.testing.assert_close(tangent, expected, rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize("name", ["quadratic", "second_order", "semidefinite", "logistic"])
def test_gradcheck(name):
    node, family = node_of(name)
    values = tuple(value.requires_grad_() for value in family.values())
    assert torch.autograd.gradcheck(
        node, values, check_forward_ad=True, fast_mode=True, check_batched_grad=False
    )


def test_transforms_agree_with_a_loop():
    node, family = node_of("second_order")
    values = family.values(4)
    both = (0, 1)
    single = [tuple(value[i] for value in values) for i in range(4)]
    loop = [jacrev(node, both)(*one) for one in single]
    for mode in (jacrev, jacfwd):
        for position, found in enumerate(vmap(mode(node, both))(*values)):
            expected = torch.stack([one[position] for one in loop])
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    gradient = vmap(grad(lambda *given: node(*given).square().sum(), both))(*values)
    solution, pullback = vjp(node, *values)
    for found, expected in zip(gradient, pullback(2 * solution), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    shared = vmap(node, in_dims=(None, 0))(values[0][0], values[1])
    expected = torch.stack([node(values[0][0], b) for b in values[1]])
    torch.testing.assert_close(shared, expected, rtol=1e-10, atol=1e-10)


def test_nested_vmap():
    node, family = node_of("entropy")
    (c,) = family.values(2, 3)
    expected = torch.softmax(c, -1)
    torch.testing.assert_close(vmap(vmap(node))(c), expected, rtol=1e-10, atol=1e-10)
    jacobian = vmap(vmap(jacfwd(node)))(c)
    exact = torch.diag_embed(expected) - expected[..., None] * expected[..., None, :]
    torch.testing.assert_close(jacobian, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("outer", [jacfwd, jacrev])
@pytest.mark.parametrize("inner", [jacfwd, jacrev])
def test_second_derivatives_are_refused(outer, inner):
    node, family = node_of("entropy")
    (c,) = family.values()
    with pytest.raises(DerivativeError, match="first derivatives only"):
        outer(inner(node))(c)


def test_double_backward_is_refused():
    node, family = node_of("entropy")
    (c,) = (value.requires_grad_() for value in family.values())
    (gradient,) = torch.autograd.grad(node(c).square().sum(), c, create_graph=True)
    with pytest.raises(DerivativeError, match="QuadraticProgram"):
        gradient.sum().backward()


def test_old_vmap_is_refused():
    node, family = node_of("entropy")
    (c,) = (value.requires_grad_() for value in family.values())
    y = node(c)
    with pytest.raises(DerivativeError, match=r"torch\.func\.jacrev"):
        torch.autograd.grad(y, c, torch.eye(6, dtype=c.dtype), is_grads_batched=True)


# Where it resumes, the compiler asks tensors for .grad, hides torch's warning, and not from pytest.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_graph_breaks_at_the_node():
    torch.compiler.reset()
    node, family = node_of("entropy")
    (c,) = (value.requires_grad_() for value in family.values())
    compiled = torch.compile(lambda c: 2 * node(3 * c), backend="eager")
    y = compiled(c)
    torch.testing.assert_close(y, 2 * torch.softmax(3 * c, -1), rtol=1e-10, atol=1e-10)
    (found,) = torch.autograd.grad(y.square().sum(), c)
    (expected,) = torch.autograd.grad((2 * torch.softmax(3 * c, -1)).square().sum(), c)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
