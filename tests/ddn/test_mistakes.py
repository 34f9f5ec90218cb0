"""Mistakes of a user: each has an error or a warning that names what is wrong."""

from __future__ import annotations

import warnings

import pytest
import torch

import ddn
from ddn.errors import ShapeError, SignatureError
from ddn.testing import check_node
from tests.ddn.problems import Entropy, make_node


def square(x, y):
    return (y - x).square().sum()


@pytest.mark.parametrize("part", ["equality", "inequality"])
def test_a_comparison_is_no_constraint(part, dtype):
    node = make_node("(n)->(n)", square)
    setattr(type(node), part, lambda self, x, y: y.sum() == 1)
    with pytest.raises(SignatureError, match=rf"{part} returned a tensor of torch\.bool"):
        node(torch.ones(2, 3, dtype=dtype))


def test_a_count_is_no_objective(dtype):
    node = make_node("(n)->(n)", lambda x, y: (y > x).sum())
    with pytest.raises(SignatureError, match=r"objective returned a value of torch\.int64"):
        node(torch.ones(2, 3, dtype=dtype))


@pytest.mark.parametrize("name", ["inequalities", "equalities", "bound", "constraints"])
def test_misspelt_parts(name):
    with pytest.warns(UserWarning, match=f"Misspelt.{name} is no part of a problem"):
        type("Misspelt", (ddn.DeclarativeNode,), {name: lambda self, x, y: y})


def test_other_methods_are_no_misspelt_parts():
    def helper(self, x):
        return x

    names = ("residual", "closed_form", "energy", "solver_options", "inequality_matrix", "restart")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("Fine", (ddn.DeclarativeNode,), dict.fromkeys(names, helper))
        type("Both", (ddn.DeclarativeNode,), {"bound": helper, "bounds": helper})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": ddn.solvers.Newton}, "an instance, not a class"),
        ({"solver": ddn.ImplicitGradient()}, "and no gradient"),
        ({"gradient": ddn.ImplicitGradient}, "an instance, not a class"),
        ({"gradient": ddn.solvers.Newton()}, "and no solver"),
    ],
)
def test_objects_in_the_wrong_place(options, message):
    with pytest.raises(TypeError, match=message):
        Entropy(**options)


@pytest.mark.parametrize("wrong", ["dense", ddn.kkt.Dense, None])
@pytest.mark.parametrize("gradient", [ddn.ImplicitGradient, ddn.UnconstrainedGradient])
def test_linear_solvers_are_objects(gradient, wrong):
    with pytest.raises(TypeError, match="linear_solver is an object"):
        gradient(linear_solver=wrong)


def test_inputs_have_no_names(dtype):
    with pytest.raises(TypeError, match="in the order of the signature, without keywords"):
        Entropy()(x=torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("arguments", [(Entropy, torch.ones(3)), (Entropy(),)])
def test_check_node_without_a_node_or_inputs(arguments):
    with pytest.raises(TypeError, match="check_node takes a node"):
        check_node(*arguments)


@pytest.mark.parametrize(
    "start",
    [lambda self, x: x[:2], lambda self, x: 0.0, lambda self, x: (x, x)],
    ids=["shape", "float", "two blocks"],
)
def test_starting_points_that_do_not_fit(start, dtype):
    node = make_node("(n)->(n)", square)
    type(node).starting_point = start
    with pytest.raises(SignatureError, match=r"starting_point must return .* \[\(3,\)\]"):
        node(torch.ones(2, 3, dtype=dtype))


def test_a_vjp_without_gradients(dtype):
    node = ddn.nodes.EntropicSimplexProjection()
    node.vjp = lambda inputs, y, grad_y: None
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(node(x).sum(), x, allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize(
    "objective",
    [
        lambda x: x.sum(),
        lambda x, y: float(y.sum()) * x.sum(),
        lambda x, y: (y.numpy() - x).sum(),
        lambda x, y: y.sum() if y[0] > 0 else x.sum(),
    ],
    ids=["arguments", "item", "numpy", "if"],
)
def test_exceptions_of_user_functions_say_how_they_are_called(objective, dtype):
    node = make_node("(n)->(n)", objective)
    with pytest.raises(Exception, match=r".") as error:
        node(torch.ones(2, 3, dtype=dtype))
    notes = "\n".join(error.value.__notes__)
    assert ".objective, which the library calls with 2 argument(s)" in notes
    assert "for ONE problem" in notes
    assert len(error.value.__notes__) == 1


def test_narrow_inputs_under_another_default_dtype():
    """The dtype of the inputs decides, not the default of torch."""
    node = make_node("(n)->(n)", square)
    type(node).bounds = lambda self, x: (0.0, None)
    previous = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        y = node(torch.tensor([1.0, -1.0], dtype=torch.float32))
    finally:
        torch.set_default_dtype(previous)
    assert y.dtype == torch.float32
    assert y.tolist() == [1.0, 0.0]


def test_shapes_that_do_not_fit_name_the_node(dtype):
    with pytest.raises(ShapeError, match=r"^LeastSquares: "):
        ddn.nodes.LeastSquares()(torch.ones(3, 2, dtype=dtype), torch.ones(4, dtype=dtype))
