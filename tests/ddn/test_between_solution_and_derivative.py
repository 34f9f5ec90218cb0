"""What the engine keeps from a solution to its derivative, and what may happen in between."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

import ddn
from ddn.errors import DerivativeError
from tests.ddn.problems import Entropy, make_node


class Changing(ddn.DeclarativeNode):
    """argmin ½ ‖y − x‖² + ¼ t Σ y⁴, with t where nobody looks, and an upper bound if there is one."""

    signature = "(n)->(n)"

    def __init__(self, upper=None):
        super().__init__()
        self.hidden = [1.0]
        if upper is not None:
            self.inequality = lambda x, y: y - upper

    def objective(self, x, y):
        return 0.5 * (y - x).square().sum() + 0.25 * self.hidden[0] * y.pow(4).sum()


@pytest.mark.parametrize("upper", [None, 0.3])
def test_a_problem_that_changes_before_its_derivative(upper, device, dtype, tolerance):
    x = torch.rand(2, 3, device=device, dtype=dtype, requires_grad=True)
    (expected,) = torch.autograd.grad(Changing(upper)(x).sum(), x)
    node = Changing(upper)
    y = node(x)
    node.hidden[0] = 5.0
    # A plain backward pass uses what was evaluated with the solution.
    (found,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)
    with pytest.raises(DerivativeError, match="has changed between its solution and its"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("upper", [None, 0.3])
def test_nothing_keeps_a_graph_alive(upper, retain, device, dtype):
    node = Changing(upper)
    x = torch.rand(2, 3, device=device, dtype=dtype, requires_grad=True)
    solution = node.solution(x)
    function = solution.y.grad_fn
    while not hasattr(function, "engine"):
        function = function.next_functions[0][0]
    engine = weakref.ref(function.engine)
    if retain:
        solution.y.sum().backward(retain_graph=True)
    del function, solution
    gc.collect()
    assert engine() is None


def test_what_is_kept_is_dropped_by_the_last_backward(device, dtype):
    x = torch.rand(2, 3, device=device, dtype=dtype, requires_grad=True)
    y = Changing()(x)
    function = y.grad_fn
    while not hasattr(function, "engine"):
        function = function.next_functions[0][0]
    engine = function.engine
    y.sum().backward(retain_graph=True)
    assert engine._verified
    assert engine._last
    y.sum().backward()
    assert not engine._verified
    assert not engine._last


def test_old_vmap_is_refused(device, dtype):
    x = torch.rand(3, device=device, dtype=dtype, requires_grad=True)
    y = Entropy()(x)
    with pytest.raises(DerivativeError, match="jacrev"):
        torch.autograd.grad(y, x, torch.eye(3, device=device, dtype=dtype), is_grads_batched=True)


@pytest.mark.parametrize("upper", [None, 0.3])
def test_transforms_inside_inference_mode(upper, device, dtype, tolerance):
    x = torch.rand(3, device=device, dtype=dtype)
    expected = torch.func.jacrev(Changing(upper))(x)
    with torch.inference_mode():
        value, pullback = torch.func.vjp(Changing(upper), x)
        found = torch.func.jacrev(Changing(upper))(x)
        row = pullback(torch.ones_like(value))[0]
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)
    torch.testing.assert_close(
        row, expected.sum(0), rtol=tolerance.gradient, atol=tolerance.gradient
    )


def test_a_failed_problem_has_no_gradient(device, dtype):
    """Linear and curved the wrong way: NaN in exactly its row, of the gradient, too."""
    node = make_node("(n),(n)->(n)", lambda q, x, y: q @ (y - x).square(), on_failure="nan")
    q = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device=device, dtype=dtype)
    x = torch.ones(2, 2, device=device, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(node(q, x).sum(), x)
    assert gradient[0].isfinite().all()
    assert gradient[1].isnan().all()


def test_one_parameter_under_two_names(device, dtype, tolerance):
    class Tied(ddn.DeclarativeNode):
        signature = "(n)->(n)"

        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.tensor(2.0))
            self.second = self.first

        def objective(self, x, y):
            return (y - (self.first + self.second) * x).square().sum()

    node = Tied().to(device, dtype)
    x = torch.rand(3, device=device, dtype=dtype)
    (gradient,) = torch.autograd.grad(node(x).sum(), node.first)
    torch.testing.assert_close(
        gradient, 2 * x.sum(), rtol=tolerance.gradient, atol=tolerance.gradient
    )
