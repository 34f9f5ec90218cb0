"""SciPy's methods against known answers; above all, nothing unsolved may count as solved."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ddn
from ddn import Status
from ddn.errors import SignatureError, SolveError
from ddn.solvers.minimize.method import METHODS
from ddn.solvers.scipy import ScipyMinimize
from ddn.testing.problems import ZOO, by_name
from tests.ddn.problems import Affine, Entropy, EqualityQP, Ridge, make_node, ridge, softmax

EVERYTHING = [method.name for method in METHODS]
CONSTRAINED = [method.name for method in METHODS if method.treats_constraints]
BOUNDED = [method.name for method in METHODS if method.treats_bounds]
REGULAR = [problem.name for problem in ZOO if problem.regular]


class Program(ddn.DeclarativeNode):
    """argmin ½ yᵀQ y + qᵀy s.t. A y = b, G y ≤ h, l ≤ y ≤ u."""

    signature = "(n,n),(n),(p,n),(p),(k,n),(k),(n),(n)->(n)"

    def objective(self, Q, q, A, b, G, h, l, u, y):
        return 0.5 * y @ Q @ y + q @ y

    def equality(self, Q, q, A, b, G, h, l, u, y):
        return A @ y - b

    def inequality(self, Q, q, A, b, G, h, l, u, y):
        return G @ y - h

    def bounds(self, Q, q, A, b, G, h, l, u):
        return l, u


def program_data(seed, n=5, p=1, k=4, batch=(), length=1.0, force=1.0):
    """A feasible program with bounds of all kinds: two, one, none, and a fixed variable."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    root = normal(n, n)
    inside = normal(n).abs()
    A, G = normal(p, n), normal(k, n)
    b = (A @ inside.unsqueeze(-1)).squeeze(-1)
    h = (G @ inside.unsqueeze(-1)).squeeze(-1) + normal(k).abs()
    l, u = inside - 1, inside + 0.5
    l[..., 1:3], u[..., 2] = -torch.inf, torch.inf
    l[..., 0] = u[..., 0] = inside[..., 0]
    Q = root @ root.mT + 0.1 * torch.eye(n, dtype=torch.float64)
    return (
        force / length * Q,
        3 * force * normal(n),
        A,
        length * b,
        G,
        length * h,
        length * l,
        length * u,
    )


def assert_same_solution(found, expected, tolerance):
    """y and all multipliers, signs included."""
    names = ["y", "equality_multipliers", "inequality_multipliers"]
    for name in [*names, "lower_multipliers", "upper_multipliers"]:
        value, reference = getattr(found, name), getattr(expected, name)
        if value is None:
            assert reference is None
            continue
        size = reference.abs().max().clamp_min(1e-300) if reference.numel() else 1
        torch.testing.assert_close(value / size, reference / size, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", CONSTRAINED)
@pytest.mark.parametrize("seed", range(3))
def test_solution_and_multipliers_agree_with_the_default_solver(method, seed):
    data = program_data(seed, batch=(3,))
    found = Program(solver=ScipyMinimize(method)).solution(*data)
    assert_same_solution(found, Program().solution(*data), 1e-9)
    assert bool((found.iterations > 0).all())


@pytest.mark.parametrize("method", [None, pytest.param("trust-constr", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", REGULAR)
def test_zoo_of_known_answers(name, method):
    """Every regular problem is solved, and if its solution is the only one, it is that one."""
    problem = by_name(name)
    inputs = problem.sample(torch.Generator().manual_seed(0), size=4, batch=(2,))
    node = problem.node(solver=ScipyMinimize(method)).double()
    found = node.solution(*inputs)
    assert bool((found.status == Status.CONVERGED).all())
    if problem.solution is None or name == "concave_over_box":  # a local minimum in every corner
        return
    parameters = {key: value.detach() for key, value in node.named_parameters()}
    expected = problem.solution(*inputs, **parameters)
    expected = expected if isinstance(expected, tuple) else (expected,)
    blocks = found.y if isinstance(found.y, tuple) else (found.y,)
    for block, reference in zip(blocks, expected, strict=True):
        torch.testing.assert_close(block, reference, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", EVERYTHING)
def test_every_method_without_constraints(method, dtype, tolerance):
    """Batch dimensions broadcast: A has (2, 1), b has (3,), r has none."""
    A = torch.randn(2, 1, 6, 3, dtype=dtype)
    b = torch.randn(3, 6, dtype=dtype)
    r = torch.tensor(0.3, dtype=dtype)
    found = Ridge(solver=ScipyMinimize(method)).solution(A, b, r)
    assert found.y.shape == (2, 3, 3)
    assert found.status.shape == (2, 3)
    assert found.y.dtype == dtype
    torch.testing.assert_close(found.y, ridge(A, b, r), rtol=tolerance.value, atol=tolerance.value)


@pytest.mark.parametrize("method", EVERYTHING)
def test_every_method_on_a_curved_valley(method):
    """argmin (a − y₁)² + 100 (y₂ − y₁²)², at (a, a²)."""
    node = make_node(
        "()->(n)",
        lambda a, y: (a - y[0]) ** 2 + 100 * (y[1] - y[0] ** 2) ** 2,
        start=lambda a: a.new_tensor([-1.2, 1.0]),
        dimensions={"n": 2},
        solver=ScipyMinimize(method, max_iterations=5000),
    )
    a = torch.tensor([1.0, 0.3], dtype=torch.float64)
    torch.testing.assert_close(node(a), torch.stack([a, a**2], -1), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", BOUNDED)
def test_bounds_and_their_multipliers(method):
    """argmin ½ ‖y − x‖² s.t. l ≤ y ≤ u: y = clamp(x); y − x = ν_l − ν_u."""
    node = make_node(
        "(n)->(n)", lambda x, y: 0.5 * (y - x).square().sum(), solver=ScipyMinimize(method)
    )
    lower = torch.tensor([-1.0, -torch.inf, 0.5, 0.25], dtype=torch.float64)
    upper = torch.tensor([1.0, 1.0, torch.inf, 0.25], dtype=torch.float64)
    type(node).bounds = lambda self, x: (lower, upper)
    x = 2 * torch.randn(4, 4, dtype=torch.float64)
    found = node.solution(x)
    expected = x.clamp(lower, upper)
    torch.testing.assert_close(found.y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.lower_multipliers, (expected - x).clamp_min(0))
    torch.testing.assert_close(found.upper_multipliers, (x - expected).clamp_min(0))


def test_the_method_follows_from_the_problem():
    x = torch.tensor([0.3, -0.2], dtype=torch.float64)
    called = []
    original = scipy.optimize.minimize

    def spy(*arguments, method, **keywords):
        called.append(method)
        return original(*arguments, method=method, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scipy.optimize, "minimize", spy)
        torch.testing.assert_close(Entropy(solver=ScipyMinimize())(x), softmax(x))
        make_node("(n)->(n)", lambda x, y: (y - x).square().sum(), solver=ScipyMinimize())(x)
    assert set(called) == {"SLSQP", "L-BFGS-B"}


@pytest.mark.parametrize("method", ["SLSQP", pytest.param("trust-constr", marks=pytest.mark.slow)])
def test_gradients(method):
    data = program_data(3, n=4, k=2)
    node = Program(solver=ScipyMinimize(method))

    def solve(q, b, h):
        Q, _, A, _, G, _, l, u = data
        return node((Q + Q.mT) / 2, q, A, b, G, h, l, u)

    inputs = tuple(data[i].clone().requires_grad_() for i in (1, 3, 5))
    assert torch.autograd.gradcheck(solve, inputs)


def test_second_derivatives():
    x = torch.randn(2, dtype=torch.float64, requires_grad=True)
    node = Entropy(solver=ScipyMinimize())
    assert torch.autograd.gradgradcheck(node, (x,))


@pytest.mark.parametrize("method", CONSTRAINED)
@pytest.mark.parametrize("length", [1e-6, 1e6])
@pytest.mark.parametrize("force", [1e-6, 1e6])
def test_units(method, length, force):
    """The same problem in other units of y and of f has the same solution, in these units."""
    units = Program(solver=ScipyMinimize(method))
    data = program_data(5, length=length, force=force)
    found = units.solution(*data)
    assert_same_solution(found, Program().solution(*data), 1e-9)


@pytest.mark.parametrize("method", CONSTRAINED)
@pytest.mark.parametrize("workers", [1, 3])
def test_transforms(method, workers):
    data = program_data(7, n=3, k=2, batch=(2,))
    node, reference = Program(solver=ScipyMinimize(method, workers=workers)), Program()
    torch.testing.assert_close(torch.func.vmap(node)(*data), reference(*data))

    def jacobian(node, transform):
        return torch.func.vmap(transform(node, argnums=1))(*data)

    expected = jacobian(reference, torch.func.jacrev)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(node, transform), expected)
    with torch.inference_mode():
        torch.testing.assert_close(node(*data), reference(*data))


def test_parameters_and_buffers_in_threads():
    """The module of the node is shared by all threads, and holds tensors of another dtype."""
    node = Affine(solver=ScipyMinimize(workers=4))
    x = torch.randn(12, 3)
    y = node(x)
    torch.testing.assert_close(y, node.closed_form(x), rtol=1e-5, atol=1e-5)
    (found,) = torch.autograd.grad(y.square().sum(), node.linear.weight)
    (expected,) = torch.autograd.grad(node.closed_form(x).square().sum(), node.linear.weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_threads_and_their_exceptions():
    seen, together = set(), threading.Barrier(2, timeout=60)

    def objective(x, y):
        if threading.current_thread() is not threading.main_thread():
            if threading.get_ident() not in seen:
                seen.add(threading.get_ident())
                together.wait()
            raise ZeroDivisionError("in the objective")
        return (y - x).square().sum()

    node = make_node("(n)->(n)", objective, solver=ScipyMinimize(workers=2))
    with pytest.raises(ZeroDivisionError, match="in the objective"):
        node(torch.zeros(2, 2))
    assert len(seen) == 2


@pytest.mark.parametrize("method", CONSTRAINED)
def test_problems_that_fail_leave_the_others_alone(method):
    """NaN, contradictory constraints and bounds, no lower bound; and one that is none of these."""
    node = make_node(
        "(),(),(n)->(n)",
        lambda a, b, x, y: a * y.sum() + 0.5 * (y[0] - x[0]).square(),
        solver=ScipyMinimize(method),
        on_failure="nan",
    )
    type(node).inequality = lambda self, a, b, x, y: torch.stack([y[0] - 1, -y[0] - b])
    type(node).bounds = lambda self, a, b, x: (torch.where(b > 5, 1.0, -1.0) * x.abs(), x.abs())
    a = torch.tensor([1.0, torch.nan, 1.0, 1.0, 1.0], dtype=torch.float64)
    b = torch.tensor([0.5, 0.5, -2.0, 9.0, 0.5], dtype=torch.float64)
    x = torch.tensor([[3.0, 2.0]] * 5, dtype=torch.float64)
    x[4] = torch.tensor([3.0, torch.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = node.solution(a, b, x)
    assert [Status(int(value)).name for value in found.status] == [
        "CONVERGED",
        "NOT_FINITE",
        "INFEASIBLE",
        "INFEASIBLE",
        "UNBOUNDED",
    ]
    torch.testing.assert_close(found.y[0], torch.tensor([1.0, -2.0], dtype=torch.float64))
    assert bool(found.y[1:].isnan().all())
    node.on_failure = "raise"
    with pytest.raises(SolveError, match=r"NOT_FINITE"):
        node(a, b, x)


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "TNC", "trust-ncg", "trust-exact"])
def test_unbounded(method):
    node = make_node(
        "(n)->(n)",
        lambda x, y: x @ y,
        solver=ScipyMinimize(method),
        on_failure="nan",
    )
    status = node.solution(torch.tensor([1.0, -2.0], dtype=torch.float64)).status
    assert int(status) == Status.UNBOUNDED


@pytest.mark.parametrize("method", EVERYTHING)
def test_a_vanishing_gradient_is_no_solution(method):
    """exp(−y) has no minimum, and gradients as small as one likes."""
    node = make_node(
        "()->()", lambda x, y: x * torch.exp(-y), solver=ScipyMinimize(method), on_failure="nan"
    )
    status = node.solution(torch.ones((), dtype=torch.float64)).status
    assert int(status) != Status.CONVERGED


def test_domain_of_the_objective():
    """Steps out of the domain of logarithms are taken back: the analytic centre of [0, x]."""
    node = make_node(
        "()->()",
        lambda x, y: -y.log() - (x - y).log(),
        start=lambda x: 0.01 * x,
        solver=ScipyMinimize(),
    )
    x = torch.tensor([1.0, 1e4], dtype=torch.float64)
    torch.testing.assert_close(node(x), x / 2)


def test_iteration_limit():
    node = Entropy(solver=ScipyMinimize(max_iterations=2), on_failure="nan")
    found = node.solution(torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64))
    assert int(found.status) == Status.MAX_ITERATIONS
    assert int(found.iterations) == 2


def test_tolerance():
    """A loose tolerance stops early, and is met all the same."""
    x = torch.randn(8, dtype=torch.float64)
    loose = Entropy(solver=ScipyMinimize(tolerance=1e-4)).solution(x)
    exact = Entropy(solver=ScipyMinimize()).solution(x)
    assert int(loose.iterations) < int(exact.iterations)
    error = float((loose.y - softmax(x)).abs().max())
    assert float((exact.y - softmax(x)).abs().max()) < 1e-14 < error < 1e-2


def test_badly_conditioned_problem_is_solved_or_not_but_never_wrong():
    """Curvatures from 1e-6 to 1e6: gradients say nothing of variables with little curvature."""
    d = 10.0 ** torch.linspace(-6, 6, 5, dtype=torch.float64)
    node = make_node(
        "(n),(n)->(n)",
        lambda d, x, y: 0.5 * (d * (y - x).square()).sum(),
        solver=ScipyMinimize(),
        on_failure="nan",
    )
    x = torch.randn(6, 5, dtype=torch.float64)
    found = node.solution(d, x)
    solved = found.status == Status.CONVERGED
    assert bool(solved.any())
    torch.testing.assert_close(found.y[solved], x[solved], rtol=1e-6, atol=1e-6)


def test_options_reach_the_method():
    x = torch.zeros(2, dtype=torch.float64)
    node = Entropy(solver=ScipyMinimize(options={"maxiter": 1}), on_failure="nan")
    assert int(node.solution(x + torch.tensor([0.0, 3.0])).iterations) < 10
    assert hash(ScipyMinimize(options={"maxiter": 1})) == hash(ScipyMinimize())


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "TNC", "Newton-CG"])
def test_methods_that_do_not_treat_the_constraints(method):
    with pytest.raises(SignatureError, match=rf"(?s)Entropy states equalities.*{method}.*SLSQP"):
        Entropy(solver=ScipyMinimize(method))(torch.zeros(3))


def test_methods_that_do_not_treat_bounds():
    node = make_node("(n)->(n)", lambda x, y: x @ y, solver=ScipyMinimize("CG"))
    type(node).bounds = lambda self, x: (0.0, 1.0)
    with pytest.raises(SignatureError, match=r"states bounds, which CG does not treat.*L-BFGS-B"):
        node(torch.ones(2))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"method": "COBYQA"}, "does not use gradients"),
        ({"method": "Nelder-Mead"}, "does not use gradients"),
        ({"method": "simplex"}, "no method of it that uses gradients.*'SLSQP', 'trust-constr'"),
        ({"tolerance": 0.0}, "tolerance is a positive number"),
        ({"max_iterations": 0}, "max_iterations is at least 1"),
        ({"workers": 0}, "workers is at least 1"),
    ],
)
def test_options_that_make_no_sense(keywords, message):
    with pytest.raises(ValueError, match=message):
        ScipyMinimize(**keywords)


def test_warm_start():
    data = program_data(11, batch=(3,))
    node = Program(solver=ScipyMinimize())
    first = node.solution(*data)
    again = node.solution(*data, warm_start=first)
    torch.testing.assert_close(again.y, first.y)
    assert bool((again.iterations < first.iterations).all())


def test_multipliers_are_estimated_where_scipy_has_none(monkeypatch):
    """SLSQP of older SciPy returns none."""
    original = scipy.optimize.minimize

    def older(*arguments, **keywords):
        result = original(*arguments, **keywords)
        result.pop("multipliers", None)
        return result

    data = program_data(13)
    expected = Program().solution(*data)
    monkeypatch.setattr(scipy.optimize, "minimize", older)
    assert_same_solution(Program(solver=ScipyMinimize("SLSQP")).solution(*data), expected, 1e-9)


@settings(max_examples=20)
@given(
    n=st.integers(1, 6),
    p=st.integers(0, 3),
    seed=st.integers(0, 10**6),
    units=st.tuples(*(st.integers(-6, 6),) * 3),
    method=st.sampled_from(CONSTRAINED),
)
def test_random_quadratic_programs(n, p, seed, units, method):
    """Strictly convex, with equalities, in any units of objective, variables and constraints."""
    generator = np.random.default_rng(seed)
    p = min(p, n)
    objective, variable, constraint = (10.0**unit for unit in units)
    root = generator.standard_normal((n, n))
    Q, q = root @ root.T + n * np.eye(n), generator.standard_normal(n)
    A, b = generator.standard_normal((p, n)), generator.standard_normal(p)
    matrix = np.block([[Q, A.T], [A, np.zeros((p, p))]])
    solution = np.linalg.solve(matrix, np.concatenate([-q, b]))
    found = EqualityQP(solver=ScipyMinimize(method)).solution(
        *map(
            torch.from_numpy,
            (
                objective * Q / variable**2,
                objective * q / variable,
                constraint * A / variable,
                constraint * b,
            ),
        )
    )
    size = np.abs(np.linalg.inv(matrix)).max() * np.abs(np.concatenate([q, b])).max()
    tolerance = 1e-9 * max(size, 1)
    np.testing.assert_allclose(found.y.numpy() / variable, solution[:n], atol=tolerance)
    np.testing.assert_allclose(
        found.equality_multipliers.numpy() * constraint / objective, solution[n:], atol=tolerance
    )
