"""The checks find planted mistakes, and the strategy covers what it promises."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import find, given
from hypothesis import strategies as st

import ddn
from ddn.errors import MissingDependencyError
from ddn.testing import CheckFailure, check_node, inputs


class Softmax(ddn.DeclarativeNode):
    """A sound node with its own solution and derivative; the subclasses below break it."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        return torch.special.xlogy(y, y).sum() - x @ y

    def equality(self, x, y):
        return y.sum().unsqueeze(0) - 1

    def solve(self, x):
        return torch.softmax(x, -1)

    def vjp(self, inputs, y, grad_y):
        return y * (grad_y - (y * grad_y).sum(-1, keepdim=True))


class WrongFactor(Softmax):
    def vjp(self, inputs, y, grad_y):
        return 2 * super().vjp(inputs, y, grad_y)


class DetachedInside(Softmax):
    """Right to first order, wrong to second."""

    def vjp(self, inputs, y, grad_y):
        return super().vjp(inputs, y.detach(), grad_y)


class WrongSolution(Softmax):
    def solve(self, x):
        return torch.softmax(1.1 * x, -1)


class CoupledBatch(Softmax):
    """Normalizes over the whole batch: right for one problem only."""

    def vjp(self, inputs, y, grad_y):
        return y * (grad_y - (y * grad_y).sum() / max(y[..., 0].numel(), 1))


class Ridge(ddn.DeclarativeNode):
    """Two inputs, one parameter, generic engine."""

    signature = "(m,n),(m)->(n)"

    def __init__(self, **options):
        super().__init__(**options)
        self.log_penalty = torch.nn.Parameter(torch.tensor(-1.0))

    def objective(self, A, b, y):
        penalty = self.log_penalty.exp() * y.square().sum()
        return 0.5 * (A @ y - b).square().sum() + 0.5 * penalty


class Maximum(ddn.DeclarativeNode):
    """A stationary point that is no minimum."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        return -0.5 * (y - x).square().sum()

    def solve(self, x):
        return x.clone()


class OtherRoot(ddn.DeclarativeNode):
    """A local minimum, but not the best one: (y² − 1)² + x y / 10 with x > 0 is smaller at y < 0."""

    signature = "()->()"

    def objective(self, x, y):
        return (y.square() - 1).square() + 0.1 * x * y

    def starting_point(self, x):
        return -torch.ones_like(x)

    def solve(self, x):
        y = torch.ones_like(x)
        for _ in range(60):
            y = y - (4 * y * (y.square() - 1) + 0.1 * x) / (12 * y.square() - 4)
        return y


def failures(node, *values):
    report = check_node(node, *values, raises=False)
    return {result.name for result in report.results if not result.passed}


def test_sound_nodes_pass():
    x = torch.randn(2, 4)
    report = check_node(Softmax(), x)
    assert report.passed
    assert len(report.results) == 13
    assert "13 of 13 checks passed" in str(report)
    assert check_node(Ridge(), torch.randn(5, 3), torch.randn(2, 5)).passed


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (WrongFactor(), "closed-form vjp agrees with the engine"),
        (WrongFactor(), "gradient (finite differences, reverse and forward mode)"),
        (DetachedInside(), "second derivatives (finite differences, all modes)"),
        (WrongSolution(), "solution is stationary and feasible"),
        (CoupledBatch(), "batch agrees with single problems"),
    ],
)
def test_planted_mistakes_are_found(node, expected):
    assert expected in failures(node, torch.randn(2, 4))


def test_second_order_mistake_is_only_found_there():
    assert failures(DetachedInside(), torch.randn(3)) == {
        "second derivatives (finite differences, all modes)"
    }


def test_points_that_are_no_minimum_are_found():
    assert "solution is a local minimum" in failures(Maximum(), torch.randn(3))
    assert failures(OtherRoot(), torch.ones(())) == {"no other solver finds a better one"}


def test_failure_lists_every_check():
    with pytest.raises(CheckFailure, match=r"WrongFactor: \d+ of 13 checks passed") as caught:
        check_node(WrongFactor(), torch.randn(3))
    assert isinstance(caught.value, AssertionError)
    assert "FAIL closed-form vjp agrees with the engine" in str(caught.value)
    assert len(caught.value.report.results) == 13


def test_skip():
    report = check_node(
        WrongSolution(), torch.randn(3), skip=["vmap agrees with a loop"], raises=False
    )
    assert "vmap agrees with a loop" not in {result.name for result in report.results}
    with pytest.raises(ValueError, match="No such check"):
        check_node(Softmax(), torch.randn(3), skip=["everything"])


def test_only_inputs_that_require_grad_are_differentiated():
    A, b = torch.randn(5, 3), torch.randn(5, requires_grad=True)
    report = check_node(Ridge(), A, b)
    details = {result.name: result.detail for result in report.results}
    # b and the parameter
    assert details["gradient (finite differences, reverse and forward mode)"].startswith(
        "6 numbers"
    )


def test_the_node_itself_is_left_alone():
    node = Ridge()
    check_node(node, torch.randn(5, 3), torch.randn(5))
    assert node.log_penalty.dtype == torch.float32
    assert node.log_penalty.grad is None


@given(data=st.data())
def test_strategy_fits_the_signature(data):
    drawn = data.draw(inputs(Ridge(), where=lambda sizes: sizes["m"] >= sizes["n"], max_size=3))
    A, b = drawn
    assert A.dtype == b.dtype == torch.float64
    assert A.shape[-2] == b.shape[-1]
    assert A.shape[-2] >= A.shape[-1]
    assert max(A.shape[-2:]) <= 3
    node = Ridge().double()
    assert node(A, b).shape == (*torch.broadcast_shapes(A.shape[:-2], b.shape[:-1]), A.shape[-1])


def test_strategy_options():
    node = Softmax()
    strategy = inputs(node, sizes={"n": 5}, transforms={0: torch.exp}, dtype=torch.float32)
    (x,) = find(strategy, lambda drawn: True)
    assert x.shape[-1] == 5
    assert x.dtype == torch.float32
    assert bool((x > 0).all())
    (x,) = find(inputs(node, sizes={"n": (2, 3)}), lambda drawn: drawn[0].shape[-1] == 3)
    assert x.shape[-1] == 3


@pytest.mark.parametrize(
    "wanted",
    [
        lambda A, b: A.ndim == 2 and b.ndim == 2,
        lambda A, b: A.ndim == 4,
        lambda A, b: not A.is_contiguous() and A.numel() > 1,
        lambda A, b: b.ndim == 3 and b.shape[0] == 1 and A.ndim == 4 and A.shape[0] > 1,
    ],
    ids=["shared matrix", "two batch dimensions", "strides", "size one against many"],
)
def test_strategy_reaches_the_corners(wanted):
    find(inputs(Ridge()), lambda drawn: wanted(*drawn))


def test_missing_hypothesis_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "ddn-torch\[testing\]"'):
        inputs(Softmax())
