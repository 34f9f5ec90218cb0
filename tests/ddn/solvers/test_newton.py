"""Newton's method against known solutions; above all, nothing unsolved may count as solved."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ddn
from ddn import Status
from ddn.solvers import Newton
from tests.ddn.problems import EqualityQP, Ridge, make_node


def kkt_solution(Q, q, A, b):
    """Solution by NumPy's least squares, which does not mind redundant constraints."""
    p = len(b)
    matrix = np.block([[Q, A.T], [A, np.zeros((p, p))]])
    return np.linalg.lstsq(matrix, np.concatenate([-q, b]), rcond=1e-12)[0][: len(q)]


@given(
    n=st.integers(1, 7),
    p=st.integers(0, 5),
    seed=st.integers(0, 10**6),
    units=st.tuples(*(st.integers(-6, 6),) * 3),
    redundant=st.booleans(),
)
def test_random_quadratic_programs(n, p, seed, units, redundant):
    """Strictly convex, any units of objective, variables and constraints, redundant constraints."""
    generator = np.random.default_rng(seed)
    p = min(p, n)
    objective, variable, constraint = (10.0**unit for unit in units)
    root = generator.standard_normal((n, n))
    Q = objective * (root @ root.T + n * np.eye(n)) / variable**2
    q = objective * generator.standard_normal(n) / variable
    A = constraint * generator.standard_normal((p, n)) / variable
    b = constraint * generator.standard_normal(p)
    if redundant and p:
        A, b = np.concatenate([A, A.sum(0, keepdims=True)]), np.append(b, b.sum())
    if not len(b):
        node = make_node("(n,n),(n)->(n)", lambda Q, q, y: 0.5 * y @ Q @ y + q @ y)
        solution = node.solution(torch.from_numpy(Q), torch.from_numpy(q))
    else:
        solution = EqualityQP().solution(*map(torch.from_numpy, (Q, q, A, b)))
    expected = variable * kkt_solution(
        Q * variable**2 / objective,
        q * variable / objective,
        A * variable / constraint,
        b / constraint,
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(solution.y.numpy() / scale, expected / scale, atol=1e-6)
    if not redundant:
        assert int(solution.iterations) <= 4


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_quadratic_program_in_each_dtype(scale, device, dtype, tolerance):
    generator = np.random.default_rng(1)
    root = generator.standard_normal((3, 5, 5))
    Q, q = root @ root.swapaxes(1, 2) + 5 * np.eye(5), scale * generator.standard_normal((3, 5))
    A, b = generator.standard_normal((2, 5)), scale * generator.standard_normal((3, 2))
    y = EqualityQP()(*(torch.from_numpy(part).to(device, dtype) for part in (Q, q, A, b)))
    expected = np.stack([kkt_solution(Q[i], q[i], A, b[i]) for i in range(3)])
    expected = torch.from_numpy(expected).to(device, dtype)
    torch.testing.assert_close(
        y / scale, expected / scale, rtol=tolerance.solver, atol=tolerance.solver
    )


def solved(node, *inputs):
    solution = node.solution(*inputs)
    assert bool((solution.status == Status.CONVERGED).all())
    return solution.y


def test_flat_objective(device, dtype, tolerance):
    """argmin (Σ y − Σ x)²: many solutions; one of them is found."""
    node = make_node("(n)->(n)", lambda x, y: (y.sum() - x.sum()).square())
    x = torch.randn(4, 3, device=device, dtype=dtype)
    torch.testing.assert_close(
        solved(node, x).sum(-1), x.sum(-1), rtol=tolerance.solver, atol=tolerance.solver
    )


def test_quartic_minimum(device, dtype):
    """Singular Hessian at the solution: linear convergence, half of the digits at best."""
    x = torch.tensor([1.0, 0.0, -3.0], device=device, dtype=dtype)
    y = solved(make_node("()->()", lambda x, y: (y - x) ** 4), x)
    assert float((y - x).abs().max()) < 10 * torch.finfo(dtype).eps ** (3 / 8)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (3.0, -4.0), (0.5, 0.7), (0.0, 0.0)])
def test_rosenbrock(start, device, dtype, tolerance):
    """argmin (a − y₁)² + 100 (y₂ − y₁²)², at (a, a²)."""
    node = make_node(
        "()->(n)",
        lambda a, y: (a - y[0]) ** 2 + 100 * (y[1] - y[0] ** 2) ** 2,
        start=lambda a: a.new_tensor(start),
        dimensions={"n": 2},
    )
    a = torch.tensor([1.0, -0.5, 2.0], device=device, dtype=dtype)
    # The Hessian has condition number 2500.
    bound = 10 * tolerance.solver
    torch.testing.assert_close(solved(node, a), torch.stack([a, a**2], -1), rtol=bound, atol=bound)


@pytest.mark.parametrize("start", [1e-3, -0.3, 0.57, 4.0])
def test_double_well(start, device, dtype, tolerance):
    node = make_node(
        "()->()", lambda x, y: (y**2 - x) ** 2, start=lambda x: torch.full_like(x, start)
    )
    x = torch.tensor([0.5, 1.0, 4.0], device=device, dtype=dtype)
    y = solved(node, x)
    torch.testing.assert_close(y.abs(), x.sqrt(), rtol=tolerance.solver, atol=tolerance.solver)


@given(n=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_eigenvector_on_the_sphere(n, seed):
    """argmin yᵀM y s.t. ‖y‖² = 1: every eigenvector is stationary, only the smallest is a minimum."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    values = torch.linspace(-1, 2, n, dtype=torch.float64)
    M = (basis * values) @ basis.mT
    node = make_node(
        "(n,n)->(n)", lambda M, y: y @ M @ y, lambda M, y: y.square().sum().unsqueeze(0) - 1
    )
    y = solved(node, (M + M.mT) / 2)
    assert float((y @ M @ y) + 1) < 1e-8


@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, 0.0)])
def test_saddle_is_no_solution(start, device, dtype):
    """The stable manifold of the saddle (0, 0) of y₁² − y₂² + y₂⁴; its minima are (0, ±√½)."""
    node = make_node(
        "()->(n)",
        lambda x, y: y[0] ** 2 - x * y[1] ** 2 + y[1] ** 4,
        start=lambda x: x.new_tensor(start),
        dimensions={"n": 2},
        on_failure="nan",
    )
    solution = node.solution(torch.ones((), device=device, dtype=dtype))
    if solution.status == Status.CONVERGED:
        assert float(solution.y[1].abs()) == pytest.approx(math.sqrt(0.5), rel=1e-3)


def test_domain_of_logarithms(device, dtype, tolerance):
    """Analytic centre of [0, x], with x over six orders of magnitude; iterates stay inside."""
    node = make_node("(n)->(n)", lambda x, y: -(y.log() + (x - y).log()).sum())
    x = torch.tensor([1.7, 10.0, 1e3, 1e6], device=device, dtype=dtype)
    torch.testing.assert_close(solved(node, x), x / 2, rtol=tolerance.solver, atol=tolerance.solver)


def test_entropy_with_extreme_scores(device, dtype, tolerance):
    node = make_node(
        "(n)->(n)",
        lambda x, y: torch.special.xlogy(y, y).sum() - x @ y,
        lambda x, y: y.sum().unsqueeze(0) - 1,
    )
    x = torch.tensor(
        [[0.0, 10.0, -10.0], [1e-3, 0.0, 0.0], [15.0, 15.0, 0.0]], device=device, dtype=dtype
    )
    torch.testing.assert_close(
        solved(node, x), torch.softmax(x, -1), rtol=tolerance.solver, atol=tolerance.solver
    )


def test_nonlinear_constraint(device, dtype, tolerance):
    """argmin −xᵀy s.t. ‖y‖² = r²: y = r x / ‖x‖, with multiplier ‖x‖ / (2 r)."""
    node = make_node(
        "(n),()->(n)",
        lambda x, r, y: -x @ y,
        lambda x, r, y: y.square().sum().unsqueeze(0) - r**2,
    )
    x = torch.randn(5, 3, device=device, dtype=dtype)
    r = torch.tensor([0.1, 1.0, 3.0, 10.0, 100.0], device=device, dtype=dtype)
    solution = node.solution(x, r)
    length = x.norm(dim=-1)
    torch.testing.assert_close(
        solution.y, x * (r / length).unsqueeze(-1), rtol=tolerance.solver, atol=tolerance.solver
    )
    torch.testing.assert_close(
        solution.equality_multipliers[:, 0],
        length / (2 * r),
        rtol=tolerance.solver,
        atol=tolerance.solver,
    )


def test_fully_determined_by_constraints(device, dtype, tolerance):
    """As many constraints as variables: a root of y³ = x."""
    node = make_node("()->()", lambda x, y: 0 * y, lambda x, y: (y**3 - x).unsqueeze(0))
    x = torch.tensor([8.0, 0.125, 1000.0], device=device, dtype=dtype)
    torch.testing.assert_close(
        solved(node, x), x ** (1 / 3), rtol=tolerance.solver, atol=tolerance.solver
    )


def test_iterations_are_counted_per_problem(device, dtype):
    node = make_node("()->()", lambda x, y: torch.exp(y) - x * y)
    iterations = node.solution(torch.tensor([1.0, 1e4], device=device, dtype=dtype)).iterations
    assert 0 < int(iterations[0]) < int(iterations[1]) < 60


def test_scalar_solution(device, dtype, tolerance):
    """No core dimension and no batch dimension anywhere."""
    node = make_node("(),()->()", lambda a, b, y: 0.5 * a * y**2 - b * y)
    a = torch.tensor(4.0, device=device, dtype=dtype, requires_grad=True)
    b = torch.tensor(2.0, device=device, dtype=dtype, requires_grad=True)
    y = node(a, b)
    assert y.shape == ()
    torch.testing.assert_close(y, b / a)
    for actual, expected in zip(torch.autograd.grad(y, [a, b]), (-0.125, 0.25), strict=True):
        assert float(actual) == pytest.approx(expected, rel=tolerance.gradient)
    assert node.solution(a, b).status.shape == ()


def test_several_blocks(device, dtype, tolerance):
    """argmin ½‖U − A‖² + ½ (s − 1ᵀU 1)²: a matrix and a scalar."""
    node = make_node(
        "(m,n)->(m,n),()",
        lambda A, U, s: 0.5 * (U - A).square().sum() + 0.5 * (s - U.sum()).square(),
    )
    A = torch.randn(4, 2, 3, device=device, dtype=dtype)
    U, s = node(A)
    torch.testing.assert_close(U, A, rtol=tolerance.solver, atol=tolerance.solver)
    torch.testing.assert_close(s, A.sum((-1, -2)), rtol=tolerance.solver, atol=tolerance.solver)
    assert isinstance(node.solution(A).y, tuple)


def test_empty_core_dimension(device, dtype):
    """No variable at all: the solution is empty."""
    y = make_node("(n)->(n)", lambda x, y: (y - x).square().sum())(
        torch.zeros(2, 0, device=device, dtype=dtype)
    )
    assert y.shape == (2, 0)


def test_larger_problem_is_solved_in_the_batch(device, dtype, tolerance):
    A = torch.randn(6, 40, 30, device=device, dtype=dtype)
    b = torch.randn(6, 40, device=device, dtype=dtype)
    r = torch.ones((), device=device, dtype=dtype)
    y = Ridge()(A, b, r)
    residual = A.mT @ (A @ y.unsqueeze(-1) - b.unsqueeze(-1)) + y.unsqueeze(-1)
    assert float(residual.abs().max()) < 100 * tolerance.solver
    assert ddn.solvers.Newton() == Newton()


def test_steps_that_undo_each_other(device, dtype):
    """√(1 + 25 y²) + ½ (y − x)²: full steps and line searches alternate between two points."""
    node = make_node("()->()", lambda x, y: (1 + 25 * y**2).sqrt() + 0.5 * (y - x) ** 2)
    x = torch.linspace(-6, 6, 121, device=device, dtype=dtype)
    found = node.solution(x)
    assert int(found.iterations.max()) < 50
    gradient = 25 * found.y / (1 + 25 * found.y**2).sqrt() + found.y - x
    assert float(gradient.abs().max()) < 100 * torch.finfo(dtype).eps


def test_a_maximum_that_is_hit_to_the_last_digit(device):
    """The farthest point of a circle, in which Newton's method lands here, is left again."""
    node = make_node("(n),()->(n)", lambda x, r, y: 0.5 * (y - x).square().sum())
    type(node).equality = lambda self, x, r, y: y.square().sum() - r.square()
    type(node).starting_point = lambda self, x, r: -x
    x = torch.tensor([-0.18, 0.51], device=device, dtype=torch.float64)
    r = x.norm()
    torch.testing.assert_close(node(x, r), x, rtol=0, atol=1e-8)
