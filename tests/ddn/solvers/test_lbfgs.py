"""L-BFGS against known solutions, SciPy and interior points; nothing unsolved may count as solved."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

import ddn
from ddn import Status
from ddn.errors import SignatureError
from ddn.solvers import InteriorPoint
from ddn.solvers.lbfgs import LBFGS
from tests.ddn.problems import make_node


def make(signature, objective, *, bounds=None, solver=None, **options):
    """A node with bounds that L-BFGS solves."""
    node = make_node(signature, objective, solver=solver or LBFGS(), **options)
    if bounds is not None:
        type(node).bounds = lambda self, *inputs: bounds(*inputs)
    return node


def solved(node, *inputs, **options):
    solution = node.solution(*inputs, **options)
    assert bool((solution.status == Status.CONVERGED).all())
    return solution


def rosenbrock(a, y):
    return 100 * (y[1:] - y[:-1].square()).square().sum() + (a - y[:-1]).square().sum()


def quadratic(Q, q, y):
    return 0.5 * y @ Q @ y + q @ y


def random_quadratic(generator, n, condition=1e2, batch=()):
    basis = np.linalg.qr(generator.standard_normal((*batch, n, n)))[0]
    values = condition ** generator.uniform(0, 1, (*batch, n))
    Q = (basis * values[..., None, :]) @ basis.swapaxes(-1, -2)
    return (Q + Q.swapaxes(-1, -2)) / 2


@pytest.mark.parametrize("n", [2, 5, 20])
def test_rosenbrock(n, device, dtype, tolerance):
    """The Hessian has a condition number of 2500."""
    start = ([-1.2, 1.0] * n)[:n]
    node = make("()->(n)", rosenbrock, start=lambda a: a.new_tensor(start), dimensions={"n": n})
    y = solved(node, torch.ones(2, device=device, dtype=dtype)).y
    torch.testing.assert_close(
        y, torch.ones_like(y), rtol=10 * tolerance.solver, atol=10 * tolerance.solver
    )


@pytest.mark.parametrize("n", [2, 5, 12])
def test_rosenbrock_with_bounds_as_scipy(n):
    start, upper = np.array(([-1.2, 1.0] * n)[:n]), np.array(([0.5, 2.0, 0.8] * n)[:n])
    node = make(
        "()->(n)",
        rosenbrock,
        bounds=lambda a: (None, torch.from_numpy(upper)),
        start=lambda a: a.new_tensor(start),
        dimensions={"n": n},
    )
    y = solved(node, torch.ones((), dtype=torch.float64)).y
    expected = scipy.optimize.minimize(
        scipy.optimize.rosen,
        start,
        jac=scipy.optimize.rosen_der,
        method="L-BFGS-B",
        bounds=[(None, bound) for bound in upper],
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 10000},
    )
    np.testing.assert_allclose(y.numpy(), expected.x, atol=1e-7)


@given(
    n=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    units=st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
)
def test_quadratic_with_bounds_in_any_units(n, seed, units):
    """A solution with its multipliers is chosen first, then the problem that it solves."""
    generator = np.random.default_rng(seed)
    objective, variable = (10.0**unit for unit in units)
    Q = random_quadratic(generator, n)
    lower, upper = -generator.uniform(0.1, 1, n), generator.uniform(0.1, 1, n)
    kind = generator.integers(0, 4, n)
    y = np.select([kind == 0, kind == 1], [lower, upper], (lower + upper) / 2)
    lower, upper = np.where(kind == 3, -np.inf, lower), np.where(kind == 3, np.inf, upper)
    force = generator.uniform(0.1, 1, n) * np.select([kind == 0, kind == 1], [1.0, -1.0], 0.0)
    q = force - Q @ y
    node = make(
        "(n,n),(n),(n),(n)->(n)",
        lambda Q, q, lower, upper, y: quadratic(Q, q, y),
        bounds=lambda Q, q, lower, upper: (lower, upper),
    )
    solution = solved(
        node,
        torch.from_numpy(objective * Q / variable**2),
        torch.from_numpy(objective * q / variable),
        torch.from_numpy(variable * lower),
        torch.from_numpy(variable * upper),
    )
    np.testing.assert_allclose(solution.y.numpy() / variable, y, atol=1e-9)
    unit = objective / variable
    for found, expected in (
        (solution.lower_multipliers, force.clip(0)),
        (solution.upper_multipliers, (-force).clip(0)),
    ):
        np.testing.assert_allclose(found.numpy() / unit, expected, atol=1e-7)
        assert bool((found.numpy()[expected == 0] == 0).all())


@pytest.mark.parametrize("n", [3, 30])
def test_quadratic_with_bounds_as_interior_point(n, device, dtype, tolerance):
    generator = np.random.default_rng(n)
    Q = torch.from_numpy(random_quadratic(generator, n, batch=(6,))).to(device, dtype)
    q = torch.from_numpy(generator.standard_normal((6, n))).to(device, dtype)

    def node(solver):
        return make("(n,n),(n)->(n)", quadratic, bounds=lambda Q, q: (-0.1, 0.05), solver=solver)

    found, other = solved(node(LBFGS()), Q, q), solved(node(InteriorPoint()), Q, q)
    bound = 10 * tolerance.solver
    torch.testing.assert_close(found.y, other.y, rtol=bound, atol=bound)
    for name in ("lower_multipliers", "upper_multipliers"):
        first, second = getattr(found, name), getattr(other, name)
        torch.testing.assert_close(first, second, rtol=10 * bound, atol=100 * bound)
    assert bool((found.active == other.active).all())


def test_exactness(device, dtype):
    """Iterations go on to the limit of the dtype."""
    x = torch.randn(4, 6, device=device, dtype=dtype)
    node = make("(n)->(n)", lambda x, y: (y.exp() - x.exp() * y).sum())
    y = solved(node, x).y
    assert float((y - x).abs().max()) < 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_variables(unit, device, dtype, tolerance):
    x = unit * torch.randn(4, 6, device=device, dtype=dtype)
    node = make("(n)->(n)", lambda x, y: (1 + ((y - x) / unit).square()).sqrt().sum())
    torch.testing.assert_close(
        solved(node, x).y / unit, x / unit, rtol=tolerance.solver, atol=tolerance.solver
    )


def test_domain_of_logarithms(device, dtype, tolerance):
    node = make("(n)->(n)", lambda x, y: -(y.log() + (x - y).log()).sum())
    x = torch.tensor([1.7, 10.0, 1e3, 1e6], device=device, dtype=dtype)
    torch.testing.assert_close(
        solved(node, x).y, x / 2, rtol=tolerance.solver, atol=tolerance.solver
    )


def test_every_problem_of_a_batch_is_independent(device, dtype):
    """Whatever the neighbours are: of other units, not finite, infeasible, unbounded or slow."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64).to(device, dtype)
    upper = torch.full((7,), 0.3, device=device, dtype=dtype)
    curvature = torch.ones(7, device=device, dtype=dtype)
    x[1], upper[1] = 1e6 * x[1], 3e5
    x[2, 1] = torch.nan
    upper[3] = -9
    upper[4], curvature[4] = torch.inf, -1
    node = make(
        "(n),(),()->(n)",
        lambda x, upper, c, y: c * (y - x).square().sum() + (c > 0) * (y - x).abs().pow(3).sum(),
        bounds=lambda x, upper, c: (-4, upper),
        on_failure="nan",
    )
    together = node.solution(x, upper, curvature)
    expected = [Status.CONVERGED] * 7
    expected[2], expected[3], expected[4] = Status.NOT_FINITE, Status.INFEASIBLE, Status.UNBOUNDED
    assert together.status.tolist() == expected
    for i in (0, 1, 5, 6):
        alone = node.solution(x[i], upper[i], curvature[i])
        assert int(alone.iterations) == int(together.iterations[i])
        torch.testing.assert_close(
            alone.y, together.y[i], rtol=1e3 * torch.finfo(dtype).eps, atol=0
        )


@pytest.mark.parametrize(
    "objective",
    [
        lambda x, y: torch.exp(-y),
        lambda x, y: -torch.tanh(y),
        lambda x, y: torch.nn.functional.softplus(-y),
        lambda x, y: -y.atan(),
        lambda x, y: 1 / y,
        lambda x, y: -y.log(),
        lambda x, y: x * y,
        lambda x, y: -(y**2),
        lambda x, y: -torch.exp(y),
    ],
)
def test_without_a_minimum(objective, device, dtype):
    """Gradients vanish, or nothing stops the objective: never solved."""
    node = make("()->()", objective, on_failure="nan", solver=LBFGS(max_iterations=300))
    x = torch.tensor([1.0, 2.0], device=device, dtype=dtype)
    status = node.solution(x).status
    assert not bool((status == Status.CONVERGED).any())


def test_a_tail_beside_a_minimum(device, dtype):
    node = make(
        "()->(n)",
        lambda x, y: torch.exp(-y[0]) + (y[1] - 5 * x).square(),
        dimensions={"n": 2},
        on_failure="nan",
        solver=LBFGS(max_iterations=300),
    )
    assert node.solution(torch.ones((), device=device, dtype=dtype)).status != Status.CONVERGED


@pytest.mark.parametrize("objective", [lambda x, y: x * y, lambda x, y: -y.square()])
def test_unbounded(objective, device, dtype):
    node = make("()->()", objective, on_failure="nan")
    status = node.solution(torch.ones(2, device=device, dtype=dtype)).status
    assert status.tolist() == [Status.UNBOUNDED] * 2


@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, 0.0)])
def test_maxima_and_saddles_are_left(start, device, dtype, tolerance):
    """y₁² − x y₂² + y₂⁴: a saddle at zero, minima at (0, ±√(x/2))."""
    node = make(
        "()->(n)",
        lambda x, y: y[0] ** 2 - x * y[1] ** 2 + y[1] ** 4,
        start=lambda x: x.new_tensor(start),
        dimensions={"n": 2},
    )
    x = torch.tensor([1.0, 4.0], device=device, dtype=dtype)
    y = solved(node, x).y
    torch.testing.assert_close(
        y[:, 1].abs(), (x / 2).sqrt(), rtol=tolerance.solver, atol=tolerance.solver
    )


def test_a_maximum_between_bounds_is_left(device, dtype):
    """−y² on [−1, 2] from zero: to either end, and a multiplier there."""
    node = make(
        "()->()",
        lambda x, y: -x * y.square(),
        bounds=lambda x: (-1, 2),
        start=torch.zeros_like,
    )
    solution = solved(node, torch.ones((), device=device, dtype=dtype))
    assert float(solution.y) in (-1.0, 2.0)


def test_fixed_variables(device, dtype):
    lower = torch.tensor([0.0, 1.0, 2.0, -torch.inf], device=device, dtype=dtype)
    upper = torch.tensor([1.0, 1.0, 2.0, torch.inf], device=device, dtype=dtype)
    node = make("(n)->(n)", lambda x, y: (y - x).square().sum(), bounds=lambda x: (lower, upper))
    x = torch.tensor([[5.0] * 4, [-3.0] * 4], device=device, dtype=dtype)
    solution = solved(node, x)
    assert solution.y.tolist() == [[1.0, 1.0, 2.0, 5.0], [0.0, 1.0, 2.0, -3.0]]
    assert solution.upper_multipliers[0].tolist() == [8.0, 8.0, 6.0, 0.0]
    assert solution.lower_multipliers[1].tolist() == [6.0, 8.0, 10.0, 0.0]
    assert solution.lower_multipliers[0].tolist() == [0.0] * 4


def test_many_variables(device, dtype, tolerance):
    """A hundred thousand: nothing of size m × m can be made."""
    m = 100_000
    x = torch.randn(m, device=device, dtype=dtype)
    node = make(
        "(n)->(n)", lambda x, y: ((y - x).cosh() + 0.1 * y**4).sum(), bounds=lambda x: (-1, 0.5)
    )
    with torch.no_grad():
        y = solved(node, x).y
    slope = (y - x).sinh() + 0.4 * y**3
    free = (y > -1) & (y < 0.5)
    assert float(slope[free].abs().max()) < 100 * tolerance.solver
    assert bool((slope[y == -1] >= 0).all())
    assert bool((slope[y == 0.5] <= 0).all())
    assert 0 < int(free.sum()) < m


def test_warm_start_saves_iterations(device, dtype):
    x = torch.randn(3, 12, device=device, dtype=dtype)
    node = make(
        "(n)->(n)",
        lambda x, y: rosenbrock(x[0] * 0 + 1, y) + (y - x).square().sum(),
        bounds=lambda x: (-0.5, 0.8),
    )
    cold = solved(node, x)
    warm = solved(node, x * (1 + 1e-6), warm_start=cold)
    assert 2 * int(warm.iterations.max()) < int(cold.iterations.max())
    again = solved(node, x, warm_start=cold)
    torch.testing.assert_close(again.y, cold.y, rtol=1e-4, atol=1e-6)


def test_iterations_that_run_out():
    node = make(
        "()->(n)",
        rosenbrock,
        start=lambda a: a.new_tensor([-1.2, 1.0]),
        dimensions={"n": 2},
        on_failure="nan",
        solver=LBFGS(max_iterations=5),
    )
    solution = node.solution(torch.ones((), dtype=torch.float64))
    assert solution.status == Status.MAX_ITERATIONS
    assert int(solution.iterations) == 5


def test_constraints_are_refused():
    def solve(**members):
        class Constrained(ddn.DeclarativeNode):
            signature = "(n)->(n)"

            def objective(self, x, y):
                return (y - x).square().sum()

        for name, function in members.items():
            setattr(Constrained, name, function)
        Constrained(solver=LBFGS())(torch.ones(2, dtype=torch.float64))

    with pytest.raises(SignatureError, match=r"inequalities.*InteriorPoint"):
        solve(inequality=lambda self, x, y: y.sum() - 1)
    with pytest.raises(SignatureError, match=r"equality constraints.*Newton"):
        solve(equality=lambda self, x, y: y.sum() - 1)
    with pytest.raises(SignatureError, match=r"equality constraints.*InteriorPoint"):
        solve(equality=lambda self, x, y: y.sum() - 1, bounds=lambda self, x: (0, None))


def test_gradient_of_the_node():
    """With two bounds active and two free variables."""
    node = make(
        "(n)->(n)",
        lambda x, y: (y - x).square().sum() + 0.1 * (y**4).sum() + 0.3 * y.sum() ** 2,
        bounds=lambda x: (-0.4, 0.4),
    )
    x = torch.tensor([0.1, -0.2, 2.0, -3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(node, (x,))
