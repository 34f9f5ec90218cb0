"""Nodes with inequalities and bounds: active sets, multipliers and derivatives.

The solutions are given in closed form by the nodes themselves, so that the engine is tested apart from
any solver.
"""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import jacfwd, jacrev, vmap

import ddn
from ddn import Status
from ddn.errors import SignatureError, SolveError, UndeclaredTensorError
from tests.ddn.problems import make_node


class Box(ddn.DeclarativeNode):
    """argmin ½ ‖y − x‖² s.t. l ≤ y ≤ u: clamp."""

    signature = "(n),(n),(n)->(n)"

    def objective(self, x, lower, upper, y):
        return 0.5 * (y - x).square().sum()

    def bounds(self, x, lower, upper):
        return lower, upper

    def solve(self, x, lower, upper):
        return x.maximum(lower).minimum(upper)


class BoxByInequality(Box):
    """The same with the bounds stated as inequalities."""

    bounds = None

    def inequality(self, x, lower, upper, y):
        return lower - y, y - upper


class Ball(ddn.DeclarativeNode):
    """argmin ½ ‖y − x‖² s.t. ‖y‖² ≤ r²: a nonlinear constraint, ν = ½ (‖x‖/r − 1)."""

    signature = "(n),()->(n)"

    def objective(self, x, r, y):
        return 0.5 * (y - x).square().sum()

    def inequality(self, x, r, y):
        return y @ y - r**2

    def solve(self, x, r):
        return x * (r / x.norm(dim=-1)).clamp_max(1).unsqueeze(-1)


def box_inputs(device, dtype):
    x = torch.tensor([[-2.0, 0.3, 0.7, 4.0], [-0.1, 5.0, 0.2, 0.9]], device=device, dtype=dtype)
    lower = torch.tensor([0.0, -torch.inf, 0.5, -1.0], device=device, dtype=dtype)
    upper = torch.tensor([1.0, torch.inf, torch.inf, 2.0], device=device, dtype=dtype)
    return x, lower, upper


@pytest.mark.parametrize("node", [Box, BoxByInequality])
def test_active_set_and_multipliers(node, device, dtype, tolerance):
    x, lower, upper = box_inputs(device, dtype)
    if node is BoxByInequality:  # infinite bounds are for `bounds`
        lower, upper = lower.clamp_min(-9), upper.clamp_max(9)
    solution = node().solution(x, lower, upper)
    below, above = x < lower, x > upper
    active = torch.cat([below, above], -1)
    assert torch.equal(solution.active, active)
    assert not solution.weakly_active.any()
    expected = (torch.where(below, lower - x, 0), torch.where(above, x - upper, 0))
    if node is Box:
        found = (solution.lower_multipliers, solution.upper_multipliers)
        assert solution.inequality_multipliers is None
    else:
        found = solution.inequality_multipliers.split(4, -1)
        assert solution.lower_multipliers is None
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance.value, atol=tolerance.value)


@pytest.mark.parametrize("node", [Box, BoxByInequality])
def test_derivatives_where_constraints_are_active(node):
    x, lower, upper = box_inputs("cpu", torch.float64)
    lower, upper = lower.clamp_min(-9), upper.clamp_max(9)
    tensors = tuple(t.clone().requires_grad_() for t in (x, lower, upper))
    assert gradcheck(node(), tensors, check_forward_ad=True)
    assert gradgradcheck(node(), tensors, check_fwd_over_rev=True)


@pytest.mark.parametrize("radius", [0.5, 50.0], ids=["active", "inactive"])
def test_nonlinear_inequality_and_its_multiplier(radius, tolerance):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    r = torch.tensor(radius, dtype=torch.float64, requires_grad=True)

    def solution(x, r):
        found = Ball().solution(x, r)
        return found.y, found.inequality_multipliers

    _, nu = solution(x, r)
    expected = (0.5 * (x.norm(dim=-1) / r - 1)).clamp_min(0).unsqueeze(-1)
    torch.testing.assert_close(nu, expected, rtol=tolerance.value, atol=tolerance.value)
    assert gradcheck(solution, (x, r), check_forward_ad=True)
    assert gradgradcheck(solution, (x, r))


def test_one_sided_derivative_where_weakly_active(device, dtype):
    """Held as active, like relu at zero; the constraint is reported."""
    x = torch.tensor([0.0, 1.0, -1.0], device=device, dtype=dtype)
    inf = torch.full_like(x, torch.inf)
    node = Box()
    solution = node.solution(x, torch.zeros_like(x), inf)
    assert solution.weakly_active.tolist() == [True, False, False, False, False, False]
    jacobian = jacrev(node)(x, torch.zeros_like(x), inf)
    expected = torch.diag(torch.tensor([0.0, 1.0, 0.0], device=device, dtype=dtype))
    torch.testing.assert_close(jacobian, expected)


def test_a_near_constraint_is_not_an_active_one(dtype):
    """A slack of a few √ε, but no multiplier: a test of the slack alone would hold it."""
    x = torch.tensor([10 * torch.finfo(dtype).eps ** 0.5, 1.0], dtype=dtype)
    inf = torch.full_like(x, torch.inf)
    jacobian = jacrev(Box())(x, torch.zeros_like(x), inf)
    torch.testing.assert_close(jacobian, torch.eye(2, dtype=dtype))


def test_active_sets_differ_within_a_batch(device, dtype, tolerance):
    x = torch.randn(6, 5, device=device, dtype=dtype)
    lower, upper = -torch.rand_like(x), torch.rand_like(x)
    y_jacobian = vmap(jacrev(Box()))(x, lower, upper)
    expected = vmap(jacrev(lambda x, lo, up: x.maximum(lo).minimum(up)))(x, lower, upper)
    torch.testing.assert_close(y_jacobian, expected, rtol=tolerance.value, atol=tolerance.value)
    forward = vmap(jacfwd(Box()))(x, lower, upper)
    torch.testing.assert_close(forward, expected, rtol=tolerance.value, atol=tolerance.value)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(scale, dtype):
    x = scale * torch.tensor([-1.0, 2.0, 0.5], dtype=dtype)
    box = (torch.zeros_like(x), scale * torch.ones_like(x))
    solution = Box().solution(x, *box)
    assert solution.active.tolist() == [True, False, False, False, True, False]
    assert solution.status.item() == Status.CONVERGED
    assert not solution.weakly_active.any()


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda x, lo, up: x, id="infeasible"),
        pytest.param(lambda x, lo, up: (lo + up) / 2, id="interior"),
        pytest.param(lambda x, lo, up: torch.where(x < 0.5, up, lo), id="wrong side"),
    ],
)
def test_wrong_solutions_are_refused(wrong):
    class Wrong(Box):
        def solve(self, x, lower, upper):
            return wrong(x, lower, upper)

    x = torch.tensor([-2.0, 3.0, -0.7], dtype=torch.float64)
    with pytest.raises(SolveError, match="NOT_STATIONARY"):
        Wrong()(x, torch.zeros_like(x), torch.ones_like(x))


def test_bounds_of_several_blocks(device, dtype):
    node = make_node(
        "(n),(m)->(n),(m)",
        lambda a, b, u, v: (u - a).square().sum() + (v - b).square().sum(),
        solve=lambda a, b: (a.clamp_min(0), b.clamp_max(1)),
    )
    type(node).bounds = lambda self, a, b: ((0.0, None), (None, torch.ones_like(b)))
    a = torch.tensor([-1.0, 2.0], device=device, dtype=dtype)
    b = torch.tensor([0.5, 3.0, 4.0], device=device, dtype=dtype)
    solution = node.solution(a, b)
    assert [tuple(t.shape) for t in solution.lower_multipliers] == [(2,), (3,)]
    assert solution.lower_multipliers[0].tolist() == [2.0, 0.0]
    assert solution.upper_multipliers[1].tolist() == [0.0, 4.0, 6.0]
    u, v = node(a, b)
    assert u.tolist() == [0.0, 2.0]
    assert v.tolist() == [0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (lambda self, x, lo, up: lo, "must return a pair"),
        (lambda self, x, lo, up: (torch.zeros(7), None), r"shape \(7,\)"),
        (lambda self, x, lo, up: ((0.0, 1.0), None), "one entry per solution block"),
    ],
)
def test_bounds_of_the_wrong_form(bounds, message):
    node = type("Wrong", (Box,), {"bounds": bounds})()
    x = torch.zeros(3)
    with pytest.raises(SignatureError, match=message):
        node(x, x, x)


def test_undeclared_tensors_in_bounds_and_inequalities():
    hidden = torch.zeros(3, requires_grad=True)
    x = torch.ones(3)
    for name, function in (
        ("bounds", lambda self, x, lo, up: (hidden, None)),
        ("inequality", lambda self, x, lo, up, y: y - hidden - 2),
    ):
        members = {"bounds": None, name: function}
        node = type("Closure", (Box,), members)()
        with pytest.raises(UndeclaredTensorError, match=name):
            node(x, x, x)


def test_degenerate_vertex_has_multipliers_of_the_right_sign(dtype):
    """Three active constraints in two dimensions: least squares alone would give a negative one."""
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 3.0]], dtype=dtype)
    node = make_node(
        "(n)->(n)",
        lambda c, y: c @ y + 1e-3 * (y @ y),
        solve=torch.zeros_like,
    )
    type(node).inequality = lambda self, c, y: rows @ y
    solution = node.solution(torch.tensor([-3.0, -1.0], dtype=dtype))
    assert bool((solution.inequality_multipliers >= 0).all())
    assert solution.status.item() == Status.CONVERGED


def test_newton_refuses_inequalities():
    x = torch.zeros(3)
    with pytest.raises(SignatureError, match="InteriorPoint"):
        Box(solver=ddn.solvers.Newton())(x, x, x)


@pytest.mark.parametrize("large", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("small", [1e-2, 1e-6])
def test_a_small_variable_beside_a_large_one_is_not_at_its_bound(large, small, device, dtype):
    """max(x, 0): whatever the size of the others, a variable that is positive is free."""
    node = make_node("(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum())
    type(node).bounds = lambda self, x: (0.0, None)
    x = torch.tensor([large, small, -small, 0.0], device=device, dtype=dtype)
    jacobian = torch.func.jacrev(node)(x)
    assert jacobian.diagonal().tolist() == [1, 1, 0, 0]
