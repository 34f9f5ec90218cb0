"""What the node verifies before it lets a solution pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ddn
from ddn import Status
from ddn.errors import ShapeError, SignatureError, SolveError, UndeclaredTensorError
from ddn.optimality import acceptable_residual
from tests.ddn.problems import Affine, Entropy, make_node, softmax


def distance(solve, **options):
    """argmin ½ ‖y − x‖² with somebody's solve."""
    return make_node("(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum(), solve=solve, **options)


@pytest.mark.parametrize("solve", [lambda x: x, lambda x: x.clone(), lambda x: x.view_as(x)])
def test_own_solve(solve, device, dtype, tolerance):
    """A solve may return its input itself."""
    x = torch.randn(2, 3, device=device, dtype=dtype)
    node = distance(solve)
    torch.testing.assert_close(node(x), x)
    expected = torch.eye(3, device=device, dtype=dtype)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(
            transform(node)(x[0]), expected, rtol=tolerance.gradient, atol=tolerance.gradient
        )
    assert node.solution(x).iterations.tolist() == [0, 0]


def test_point_that_is_not_stationary(device, dtype):
    x = torch.randn(4, 3, device=device, dtype=dtype)
    shift = torch.zeros(4, 1, device=device, dtype=dtype)
    shift[1], shift[3] = 1.0, -1.0
    with pytest.raises(
        SolveError, match=r"(?s)2 of 4 .*element\(s\) 1, 3: NOT_STATIONARY"
    ) as caught:
        distance(lambda x: x + shift)(x)
    assert caught.value.indices == [(1,), (3,)]


@pytest.mark.parametrize("exponent", [0.5, 0.0, -0.5])
def test_verification_does_not_depend_on_units(exponent, device, dtype):
    scale = torch.finfo(dtype).eps ** exponent
    x = scale * torch.randn(4, 3, device=device, dtype=dtype)
    assert distance(lambda x: x).solution(x).status.tolist() == [0] * 4
    with pytest.raises(SolveError, match="NOT_STATIONARY") as caught:
        distance(lambda x: 1.1 * x)(x)
    assert len(caught.value.indices) == 4


def test_solution_at_zero(device, dtype):
    """Zero has no scale of its own, but it is a solution all the same."""
    x = torch.zeros(3, device=device, dtype=dtype)
    assert distance(lambda x: x).solution(x).status == Status.CONVERGED
    assert (
        make_node("(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum(), lambda x, y: y.sum()[None])
        .solution(x + 1)
        .status
        == Status.CONVERGED
    )


def test_infeasible_point(device, dtype):
    class Wrong(Entropy):
        def solve(self, x):
            return torch.softmax(x, -1) * 2

    with pytest.raises(SolveError, match="NOT_STATIONARY"):
        Wrong()(torch.zeros(3, device=device, dtype=dtype))


@pytest.mark.parametrize(
    ("solve", "found"),
    [
        (lambda x: x[..., :2], r"\(4, 2\)"),
        (lambda x: x[0], r"\(3,\)"),
        (lambda x: (x, x), r"\(4, 3\), \(4, 3\)"),
        (lambda x: x.unsqueeze(0), r"\(1, 4, 3\)"),
    ],
)
def test_solve_of_wrong_shape(solve, found, device, dtype):
    x = torch.zeros(4, 3, device=device, dtype=dtype)
    with pytest.raises(ShapeError, match=rf"solve must return .*\(4, 3\).*returned .*{found}"):
        distance(solve)(x)


@pytest.mark.parametrize(
    ("objective", "found"),
    [
        (lambda x, y: (y - x).square(), r"returned \(3,\)"),
        (lambda x, y: (y - x).square().sum()[None], r"returned \(1,\)"),
        (lambda x, y: 0.0, "returned float"),
        (lambda x, y: None, "returned NoneType"),
    ],
)
def test_objective_that_is_not_scalar(objective, found, device, dtype):
    with pytest.raises(SignatureError, match=rf"must return a scalar .*{found}"):
        make_node("(n)->(n)", objective)(torch.zeros(4, 3, device=device, dtype=dtype))


class Closure(ddn.DeclarativeNode):
    """argmin ½ ‖y − x − s‖² with an s that is neither input nor parameter."""

    signature = "(n)->(n)"

    def __init__(self, shift, **options):
        super().__init__(**options)
        self.shift = [shift]  # hidden from nn.Module

    def objective(self, x, y):
        return 0.5 * (y - x - self.shift[0]).square().sum()


class ClosureInConstraint(Closure):
    def objective(self, x, y):
        return 0.5 * (y - x).square().sum()

    def equality(self, x, y):
        return y.sum().unsqueeze(0) - self.shift[0].sum()


class ClosureWithVjp(Closure):
    def solve(self, x):
        return x + self.shift[0]

    def vjp(self, inputs, y, grad_y):
        return grad_y


@pytest.mark.parametrize("kind", [Closure, ClosureInConstraint, ClosureWithVjp])
def test_undeclared_tensor(kind, device, dtype):
    x = torch.zeros(2, 3, device=device, dtype=dtype)
    shift = torch.ones(3, device=device, dtype=dtype, requires_grad=True)
    with pytest.raises(UndeclaredTensorError, match="neither an input nor a parameter"):
        kind(shift)(x)
    assert kind(shift.detach())(x).shape == (2, 3)
    with torch.no_grad():
        assert kind(shift)(x).shape == (2, 3)


@pytest.mark.parametrize("kind", [Closure, ClosureInConstraint, ClosureWithVjp])
@pytest.mark.parametrize("transform", ["grad", "jacrev", "jacfwd", "hessian", "dual", "vmap"])
def test_undeclared_tensor_under_transforms(kind, transform, device, dtype):
    """No transform differentiates (or maps over) what the node does not know of: it must say so."""
    shift = torch.ones(3, device=device, dtype=dtype)

    def solve(shift):
        return kind(shift)(torch.zeros(3, device=device, dtype=dtype))

    def run():
        if transform == "dual":
            with torch.autograd.forward_ad.dual_level():
                return solve(torch.autograd.forward_ad.make_dual(shift, shift))
        if transform == "grad":
            return torch.func.grad(lambda s: solve(s).sum())(shift)
        if transform == "vmap":
            return torch.func.vmap(solve)(shift.expand(2, 3))
        return getattr(torch.func, transform)(solve)(shift)

    with pytest.raises(UndeclaredTensorError):
        run()


class ScaledWithVjp(ddn.DeclarativeNode):
    """argmin ½ ‖y − w x‖², with a vjp that knows nothing of the parameter w."""

    signature = "(n)->(n)"

    def __init__(self, **options):
        super().__init__(**options)
        self.weight = nn.Parameter(torch.tensor(2.0))

    def objective(self, x, y):
        return 0.5 * (y - self.weight * x).square().sum()

    def solve(self, x):
        return self.weight * x

    def vjp(self, inputs, y, grad_y):
        return self.weight * grad_y


def test_parameters_beside_a_vjp(device, dtype):
    x = torch.randn(2, 3, device=device, dtype=dtype)
    with pytest.raises(UndeclaredTensorError, match=r"gradient=ddn.ImplicitGradient"):
        ScaledWithVjp().to(device, dtype)(x)
    node = ScaledWithVjp(gradient=ddn.ImplicitGradient()).to(device, dtype)
    (gradient,) = torch.autograd.grad(node(x).sum(), node.weight)
    torch.testing.assert_close(gradient, x.sum())
    frozen = ScaledWithVjp().to(device, dtype).requires_grad_(False)
    torch.testing.assert_close(frozen(x), 2 * x)


def test_solution_reports(device, dtype, tolerance):
    x = torch.randn(2, 1, 5, device=device, dtype=dtype)
    solution = Entropy().solution(x)
    assert solution.y.shape == (2, 1, 5)
    assert solution.equality_multipliers.shape == (2, 1, 1)
    assert solution.inequality_multipliers is None
    assert solution.status.shape == solution.iterations.shape == (2, 1)
    assert bool((solution.stationarity < acceptable_residual(dtype)).all())
    assert bool((solution.feasibility < acceptable_residual(dtype)).all())
    torch.testing.assert_close(solution.y, softmax(x), rtol=tolerance.solver, atol=tolerance.solver)
    torch.testing.assert_close(
        solution.equality_multipliers.squeeze(-1),
        torch.logsumexp(x, -1) - 1,
        rtol=tolerance.solver,
        atol=tolerance.solver,
    )


def test_unconstrained_solution_has_no_multipliers(device, dtype):
    node = Affine().to(device, dtype)
    assert node.solution(
        torch.zeros(2, 3, device=device, dtype=dtype)
    ).equality_multipliers.shape == (2, 0)


def test_multipliers_of_an_own_solve(device, dtype, tolerance):
    """A solve has no multipliers to offer: least squares on stationarity finds them."""

    class Own(Entropy):
        def solve(self, x):
            return torch.softmax(x, -1)

    x = torch.randn(3, 4, device=device, dtype=dtype, requires_grad=True)
    multipliers = Own().solution(x).equality_multipliers.squeeze(-1)
    torch.testing.assert_close(
        multipliers, torch.logsumexp(x, -1) - 1, rtol=tolerance.solver, atol=tolerance.solver
    )
    (gradient,) = torch.autograd.grad(multipliers.sum(), x)
    torch.testing.assert_close(
        gradient, softmax(x), rtol=tolerance.gradient, atol=tolerance.gradient
    )
