"""Nonlinear least squares against SciPy and known solutions; nothing unsolved may count as solved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

import ddn
from ddn import Status
from ddn.errors import SignatureError
from ddn.solvers import Newton
from ddn.solvers.least_squares import residual_and_jacobian
from ddn.solvers.levenberg_marquardt import GaussNewton, LevenbergMarquardt

BOTH = pytest.mark.parametrize("solver", [LevenbergMarquardt(), GaussNewton()], ids=["LM", "GN"])


def make(signature, residual, solver, *, start=None, bounds=None, dimensions=None, **options):
    members = {"signature": signature, "residual": lambda self, *a: residual(*a)}
    if start is not None:
        members["starting_point"] = lambda self, *a: start(*a)
    if bounds is not None:
        members["bounds"] = lambda self, *a: bounds(*a)
    if dimensions is not None:
        members["dimensions"] = dimensions
    return type("LeastSquares", (ddn.DeclarativeNode,), members)(solver=solver, **options)


def solved(node, *inputs, **options):
    solution = node.solution(*inputs, **options)
    assert bool((solution.status == Status.CONVERGED).all())
    return solution


def decay(t, d, y):
    """Residual of d ≈ y₀ exp(−y₁ t)."""
    return y[0] * torch.exp(-y[1] * t) - d


def decay_node(solver, **options):
    return make(
        "(k),(k)->(n)",
        decay,
        solver,
        start=lambda t, d: t.new_tensor([1.0, 0.5]),
        dimensions={"n": 2},
        **options,
    )


@BOTH
@pytest.mark.parametrize("rows", [4, 9, 30])
def test_linear_least_squares(solver, rows, device, dtype, tolerance):
    """Fewer rows than columns (some solution), as many (hidden rank deficiency aside), more."""
    A = torch.randn(5, rows, 9, device=device, dtype=dtype)
    if rows == 9:
        A = A + 4 * torch.eye(9, device=device, dtype=dtype)
    b = torch.randn(5, rows, device=device, dtype=dtype)
    y = solved(make("(m,n),(m)->(n)", lambda A, b, y: A @ y - b, solver), A, b).y
    residual = (A @ y.unsqueeze(-1)).squeeze(-1) - b
    bound = 10 * tolerance.solver
    slope = (A.mT @ residual.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=bound)
    if rows >= 9:
        expected = torch.linalg.lstsq(A, b.unsqueeze(-1)).solution.squeeze(-1)
        torch.testing.assert_close(y, expected, rtol=bound, atol=bound)


@BOTH
def test_rank_deficient(solver, device, dtype, tolerance):
    """Two equal columns: many solutions, one is found, and the certificate says that it is one of many."""
    A = torch.randn(4, 6, 3, device=device, dtype=dtype)
    A[..., 2] = A[..., 1]
    b = torch.randn(4, 6, device=device, dtype=dtype)
    node = make("(m,n),(m)->(n)", lambda A, b, y: A @ y - b, solver, on_failure="nan")
    y = solved(node, A, b).y
    slope = A.mT @ (A @ y.unsqueeze(-1) - b.unsqueeze(-1))
    assert float(slope.abs().max()) < 100 * tolerance.solver


@BOTH
@pytest.mark.parametrize("n", [2, 10])
def test_rosenbrock(solver, n, device, dtype, tolerance):
    """A tuple of residuals, zero at the solution."""
    node = make(
        "()->(n)",
        lambda a, y: (10 * (y[1:] - y[:-1].square()), a - y[:-1]),
        solver,
        start=lambda a: a.new_tensor([-1.2, 1.0] * (n // 2)),
        dimensions={"n": n},
    )
    y = solved(node, torch.ones(2, device=device, dtype=dtype)).y
    torch.testing.assert_close(
        y, torch.ones_like(y), rtol=10 * tolerance.solver, atol=10 * tolerance.solver
    )


@BOTH
@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_curve_fit_as_scipy(solver, noise, device, dtype, tolerance):
    """Residuals that are zero, moderate and large."""
    t = torch.linspace(0, 2, 25, device=device, dtype=dtype)
    d = 2 * torch.exp(-1.3 * t) + noise * torch.sin(9 * t)
    y = solved(decay_node(solver), t, d).y
    t, d = t.double().cpu().numpy(), d.double().cpu().numpy()
    expected = scipy.optimize.least_squares(
        lambda y: y[0] * np.exp(-y[1] * t) - d, [1.0, 0.5], xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    np.testing.assert_allclose(y.double().cpu().numpy(), expected.x, atol=10 * tolerance.solver)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    seed=st.integers(0, 10**6),
    units=st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
)
def test_bounds_in_any_units_as_scipy(shape, seed, units):
    """Bounded linear least squares, with more or fewer rows than columns."""
    generator = np.random.default_rng(seed)
    n, extra = shape
    objective, variable = (10.0**unit for unit in units)
    A, b = generator.standard_normal((n + extra, n)), generator.standard_normal(n + extra)
    lower, upper = -generator.uniform(0, 0.5, n), generator.uniform(0.01, 0.5, n)
    node = make(
        "(m,n),(m),(n),(n)->(n)",
        lambda A, b, lower, upper, y: A @ y - b,
        LevenbergMarquardt(),
        bounds=lambda A, b, lower, upper: (lower, upper),
    )
    inputs = (objective * A / variable, objective * b, variable * lower, variable * upper)
    solution = solved(node, *map(torch.from_numpy, inputs))
    y = solution.y.numpy() / variable
    expected = scipy.optimize.lsq_linear(A, b, (lower, upper), method="bvls", tol=1e-14)
    assert np.square(A @ y - b).sum() / 2 <= expected.cost * (1 + 1e-7) + 1e-12
    assert ((y >= lower * (1 + 1e-12)) & (y <= upper * (1 + 1e-12))).all()
    force = A.T @ (A @ y - b)
    unit = objective**2 / variable
    nu = (solution.lower_multipliers - solution.upper_multipliers).numpy() / unit
    np.testing.assert_allclose(nu, force, atol=1e-6)


@BOTH
def test_every_problem_of_a_batch_is_independent(solver, device, dtype):
    t = torch.linspace(0, 2, 9, device=device, dtype=dtype)
    d = 2 * torch.exp(-1.3 * t) + 0.1 * torch.randn(5, 9, device=device, dtype=dtype)
    d[1] = 1e6 * d[1]
    d[2, 3] = torch.nan
    node = decay_node(solver, on_failure="nan")
    together = node.solution(t, d)
    expected = [Status.CONVERGED] * 5
    expected[2] = Status.NOT_FINITE
    assert together.status.tolist() == expected
    for i in (0, 1, 3, 4):
        alone = node.solution(t, d[i])
        bound = 1e4 * torch.finfo(dtype).eps
        torch.testing.assert_close(alone.y, together.y[i], rtol=bound, atol=bound)


def test_bounds_that_cannot_be_met():
    node = make(
        "(n),()->(n)",
        lambda x, u, y: y - x,
        LevenbergMarquardt(),
        bounds=lambda x, u: (0, u),
        on_failure="nan",
    )
    x = torch.ones(2, 3, dtype=torch.float64)
    status = node.solution(x, torch.tensor([-1.0, 0.5], dtype=torch.float64)).status
    assert status.tolist() == [Status.INFEASIBLE, Status.CONVERGED]


@pytest.mark.parametrize(
    "residual",
    [lambda x, y: torch.exp(-y), lambda x, y: 1 - torch.tanh(y), lambda x, y: 1 / y],
    ids=["exp", "tanh", "inverse"],
)
@BOTH
def test_without_a_minimum(solver, residual, device, dtype):
    """The residual vanishes at infinity: never solved."""
    solver = replace(solver, max_iterations=150)
    node = make("()->()", residual, solver, on_failure="nan")
    x = torch.ones(2, device=device, dtype=dtype)
    assert not bool((node.solution(x).status == Status.CONVERGED).any())


@BOTH
def test_a_maximum_at_the_start_is_left(solver, device, dtype, tolerance):
    """½(y² − x)² from zero, where the gradient vanishes."""
    node = make("()->()", lambda x, y: y.square() - x, solver, start=lambda x: 0 * x)
    x = torch.tensor([1.0, 4.0], device=device, dtype=dtype)
    torch.testing.assert_close(
        solved(node, x).y.abs(), x.sqrt(), rtol=tolerance.solver, atol=tolerance.solver
    )


def test_minimum_where_the_jacobian_vanishes(device, dtype, tolerance):
    """½(y² + x)²: JᵀJ knows nothing of the curvature at y = 0, and damping must make up for it."""
    node = make("()->()", lambda x, y: y.square() + x, LevenbergMarquardt())
    x = torch.tensor([0.5], device=device, dtype=dtype)
    assert float(solved(node, x).y.abs().max()) < tolerance.solver


def test_singular_minimum(device, dtype):
    """½(y − x)⁴."""
    x = torch.tensor([1.0, 2.0, -0.5], device=device, dtype=dtype)
    y = solved(make("()->()", lambda x, y: (y - x).square(), LevenbergMarquardt()), x).y
    assert float((y - x).abs().max()) < 10 * torch.finfo(dtype).eps ** (3 / 8)


@BOTH
def test_gradient_with_a_large_residual(solver):
    """The exact Hessian counts: the derivative of the Gauss–Newton equations would be another one."""
    t = torch.linspace(0, 2, 6, dtype=torch.float64)
    d = 2 * torch.exp(-1.3 * t) + 1.5 * torch.sin(9 * t)
    d.requires_grad_()
    node = decay_node(solver)
    assert torch.autograd.gradcheck(lambda d: node(t, d), (d,), atol=1e-7, rtol=1e-5)
    y = node(t, d)
    (exact,) = torch.autograd.grad(y[1], d)
    jacobian = torch.stack([torch.exp(-y[1] * t), -t * y[0] * torch.exp(-y[1] * t)], -1).detach()
    gauss_newton = torch.linalg.lstsq(jacobian, torch.eye(6, dtype=torch.float64)).solution[1]
    assert float((exact - gauss_newton).abs().max() / exact.abs().max()) > 0.05


@BOTH
def test_gradients_agree_with_newton(solver):
    t = torch.linspace(0, 2, 12, dtype=torch.float64)
    d = (2 * torch.exp(-1.3 * t) + 0.3 * torch.sin(9 * t)).requires_grad_()
    first, second = (
        torch.autograd.grad(decay_node(s)(t, d).square().sum(), d)[0] for s in (solver, Newton())
    )
    torch.testing.assert_close(first, second, rtol=1e-7, atol=1e-9)


@BOTH
def test_warm_start_saves_iterations(solver, device, dtype):
    t = torch.linspace(0, 2, 25, device=device, dtype=dtype)
    d = 2 * torch.exp(-1.3 * t) + 0.1 * torch.sin(9 * t)
    node = decay_node(solver)
    cold = solved(node, t, d)
    warm = solved(node, t, d * (1 + 1e-6), warm_start=cold)
    assert int(warm.iterations) < int(cold.iterations)


def test_iterations_that_run_out():
    t = torch.linspace(0, 2, 25, dtype=torch.float64)
    node = decay_node(LevenbergMarquardt(max_iterations=2), on_failure="nan")
    solution = node.solution(t, 5 + 2 * torch.exp(-1.3 * t))
    assert solution.status == Status.MAX_ITERATIONS
    assert int(solution.iterations) == 2


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_jacobian_by_rows_and_by_columns(rows):
    """Against the Jacobian of torch, with batched and shared inputs."""
    seen = []

    class Spy:
        def solve(self, problem, operands, warm_start=None):
            y = problem.starting_point(operands)
            seen.append((y, *residual_and_jacobian(problem, y, operands)))
            return LevenbergMarquardt().solve(problem, operands)

    def residual(A, c, y):
        return torch.sin(A @ y) + c * y.square().sum()

    A = torch.randn(rows, 4, dtype=torch.float64)
    c = torch.randn(2, 3, dtype=torch.float64)
    make("(m,n),()->(n)", residual, Spy(), on_failure="nan").solution(A, c)
    y, value, jacobian = seen[0]
    assert jacobian.shape == (2, 3, rows, 4)
    for index in np.ndindex(2, 3):
        expected = torch.func.jacrev(lambda y, c=c[index]: residual(A, c, y))(y[index])
        torch.testing.assert_close(jacobian[index], expected)
        torch.testing.assert_close(value[index], residual(A, c[index], y[index]))


def test_what_is_refused():
    x = torch.ones(2, dtype=torch.float64)
    without = type(
        "Plain",
        (ddn.DeclarativeNode,),
        {"signature": "(n)->(n)", "objective": lambda self, x, y: (y - x).square().sum()},
    )
    for solver in (LevenbergMarquardt(), GaussNewton()):
        with pytest.raises(SignatureError, match="states no residual"):
            without(solver=solver)(x)
        constrained = make("(n)->(n)", lambda x, y: y - x, solver)
        type(constrained).equality = lambda self, x, y: y.sum() - 1
        with pytest.raises(SignatureError, match=r"equality constraints.*Newton"):
            type(constrained)(solver=solver)(x)
    node = make("(n)->(n)", lambda x, y: y - x, GaussNewton(), bounds=lambda x: (0, None))
    with pytest.raises(SignatureError, match=r"bounds.*LevenbergMarquardt"):
        node(x)


def test_no_finite_problem_at_all():
    class Shift(ddn.DeclarativeNode):
        signature = "(n)->(n)"

        def residual(self, x, y):
            return y - x

    node = Shift(on_failure="nan")
    solution = node.solution(torch.full((2, 3), torch.nan, dtype=torch.float64))
    assert (solution.status == ddn.Status.NOT_FINITE).all()
