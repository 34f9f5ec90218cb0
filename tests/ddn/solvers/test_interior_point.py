"""The interior-point solver against other solvers, on problems without a solution, and on its path."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch

import ddn
from ddn import Status
from ddn.errors import SolveError
from ddn.solvers import InteriorPoint
from ddn.verification import solve_verified
from tests.ddn.problems import Entropy, make_node, softmax


class Program(ddn.DeclarativeNode):
    """argmin ½ yᵀQ y + qᵀy s.t. A y = b, G y ≤ h, y ≥ −1."""

    signature = "(n,n),(n),(p,n),(p),(k,n),(k)->(n)"

    def objective(self, Q, q, A, b, G, h, y):
        return 0.5 * y @ Q @ y + q @ y

    def equality(self, Q, q, A, b, G, h, y):
        return A @ y - b

    def inequality(self, Q, q, A, b, G, h, y):
        return G @ y - h

    def bounds(self, Q, q, A, b, G, h):
        return -1.0, None


def random_program(seed, n=5, p=1, k=4, scale=1.0):
    """A feasible program, its variables in units of ``scale``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = normal(n, n)
    inside = normal(n).abs()
    A, G = normal(p, n), normal(k, n)
    return root @ root.mT, normal(n), A, A @ inside, G, G @ inside + scale * normal(k).abs()


@pytest.mark.parametrize("seed", range(12))
def test_against_slsqp(seed):
    data = random_program(seed)
    Q, q, A, b, G, h = (t.numpy() for t in data)
    found = Program().solution(*data)
    assert found.status.item() == Status.CONVERGED
    reference = scipy.optimize.minimize(
        lambda y: 0.5 * y @ Q @ y + q @ y,
        np.zeros(len(q)),
        jac=lambda y: Q @ y + q,
        bounds=[(-1, None)] * len(q),
        constraints=[
            {"type": "eq", "fun": lambda y: A @ y - b},
            {"type": "ineq", "fun": lambda y: h - G @ y},
        ],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert reference.success
    y = found.y.numpy()
    assert 0.5 * y @ Q @ y + q @ y <= reference.fun + 1e-9 * max(1, abs(reference.fun))
    np.testing.assert_allclose(y, reference.x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_linear_programs_against_scipy(seed):
    _, c, A, b, G, h = random_program(seed)
    c = c.abs() + 0.1  # bounded below by the bounds
    found = Program().solution(torch.zeros(5, 5, dtype=torch.float64), c, A, b, G, h)
    reference = scipy.optimize.linprog(
        c.numpy(), G.numpy(), h.numpy(), A.numpy(), b.numpy(), bounds=(-1, None)
    )
    assert reference.success
    np.testing.assert_allclose(found.y.numpy(), reference.x, rtol=0, atol=1e-8)


def test_inactive_constraints_have_multipliers_that_are_zero():
    found = Program().solution(*random_program(3))
    q = found.active
    multipliers = torch.cat(
        [found.inequality_multipliers, found.lower_multipliers, found.upper_multipliers]
    )
    assert not multipliers[~q].any()
    assert bool((multipliers[q] > 0).all())


def test_problems_without_solution_are_named(dtype):
    """Infeasible, unbounded and undefined problems beside one that is none of these."""
    node = make_node("(),()->()", lambda c, b, y: c * y)
    type(node).inequality = lambda self, c, b, y: torch.stack([y - b, -y - b])
    type(node).__name__ = "Interval"
    c = torch.tensor([1.0, 1.0, torch.nan], dtype=dtype)
    b = torch.tensor([1.0, -1.0, 1.0], dtype=dtype)
    with pytest.raises(SolveError, match=r"(?s)2: NOT_FINITE.*1: INFEASIBLE") as error:
        node(c, b)
    assert error.value.indices == [(1,), (2,)]
    node.on_failure = "nan"
    y = node(c, b)
    assert y[0].item() == pytest.approx(-1)
    assert y[1:].isnan().all()


def test_unbounded(dtype):
    node = make_node("(n)->(n)", lambda c, y: c @ y)
    type(node).bounds = lambda self, c: (0.0, None)
    with pytest.raises(SolveError, match=r"UNBOUNDED|MAX_ITERATIONS|STALLED"):
        node(torch.tensor([1.0, -1.0], dtype=dtype))


def test_without_inequalities_it_solves_the_equality_problem(dtype, tolerance):
    x = torch.randn(3, 4, dtype=dtype)
    y = Entropy(solver=InteriorPoint())(x)
    torch.testing.assert_close(y, softmax(x), rtol=tolerance.solver, atol=tolerance.solver)


@pytest.mark.parametrize("barrier", [1.0, 1e-2, 1e-4])
def test_central_path(barrier):
    bound = Program().bind(*random_program(5))
    result = InteriorPoint(barrier=barrier).solve(bound.problem, bound.operands)
    assert result.status.item() == Status.CONVERGED
    g = bound.problem.inequality(result.y, bound.operands)
    nu = result.multipliers[1:]
    stated = slice(0, 4 + 5)  # rows of bounds that do not exist have no multiplier
    products = (nu * -g)[stated]
    torch.testing.assert_close(products, torch.full_like(products, barrier), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(scale):
    """y in units of ``scale``, the objective in those of its square."""
    Q, q, A, b, G, h = random_program(7)
    plain = make_node(
        "(n,n),(n),(p,n),(p),(k,n),(k)->(n)",
        lambda Q, q, A, b, G, h, y: 0.5 * y @ Q @ y + q @ y,
        lambda Q, q, A, b, G, h, y: A @ y - b,
    )
    type(plain).inequality = lambda self, Q, q, A, b, G, h, y: G @ y - h
    reference = plain(Q, q, A, b, G, h)
    scaled = plain(Q, scale * q, A, scale * b, G, scale * h)
    torch.testing.assert_close(scaled / scale, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_random_programs_converge_or_say_why():
    """300 programs of several sizes and scalings: none is called solved that is not."""
    unsolved = 0
    for seed in range(300):
        n = 2 + seed % 7
        scale = 10.0 ** (seed % 13 - 6)
        data = random_program(seed, n=n, p=seed % 2 + 1 if n > 2 else 1, k=n, scale=scale)
        bound = Program().bind(*data)
        found = solve_verified(bound.problem, InteriorPoint(), bound.operands)
        if found.status.item() != Status.CONVERGED:
            unsolved += 1
            continue
        assert float(found.optimality.residuals.max()) < 1e-8, seed
    assert unsolved <= 3
