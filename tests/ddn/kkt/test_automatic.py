"""The choice of a linear solver, and what happens where the first choice fails."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.kkt import Automatic, Dense, KKTSystem
from ddn.kkt import automatic as module
from ddn.kkt.fallback import WithFallback
from ddn.lagrangian import Lagrangian
from tests.ddn.kkt.cases import Coupled, Separable, make_system, solve_both
from tests.ddn.problems import make_node


@pytest.fixture
def used(monkeypatch):
    """Names of the linear solvers that the automatic choice has called, in order."""
    names = []

    def watch(cls):
        factorize = cls.factorize

        def watched(self, system):
            names.append(cls.__name__)
            return factorize(self, system)

        monkeypatch.setattr(cls, "factorize", watched)

    for cls in (module.Dense, module.ProjectedCG, module.MINRES):
        watch(cls)

    class Blocks(module.BlockDiagonalFactorization):
        def __init__(self, system, matrix):
            names.append("BlockDiagonal")
            super().__init__(system, matrix)

    monkeypatch.setattr(module, "BlockDiagonalFactorization", Blocks)
    return names


class Declared(Separable):
    """Says that it is separable."""

    hessian_block_size = 1


class Paired(Separable):
    """Coupled in pairs, and says so."""

    hessian_block_size = 2

    def objective(self, x, w, y):
        return super().objective(x, w, y) + y.reshape(-1, 2).prod(-1).sum()


class Mistaken(Coupled):
    """Says that it is separable, and is not."""

    hessian_block_size = 1


class ManyRows(ddn.DeclarativeNode):
    """About as many rows as variables."""

    signature = "(n),(n)->(n)"

    def objective(self, x, w, y):
        return (y - x).square().sum() + (y.cos() * w.square()).sum() / 4

    def equality(self, x, w, y):
        return y[1:-1:2] + y[::2][:-1] - x[::2][:-1]


SMALL, LARGE = Automatic(), Automatic(dense_budget=0)


@pytest.mark.parametrize(
    ("node", "n", "solver", "expected"),
    [
        (Separable, 20, SMALL, ["Dense"]),
        (Coupled, 20, SMALL, ["Dense"]),
        (Separable, 300, SMALL, ["BlockDiagonal"]),
        (Declared, 300, SMALL, ["BlockDiagonal"]),
        (Paired, 300, SMALL, ["BlockDiagonal"]),
        (Coupled, 300, SMALL, ["Dense"]),
        (Mistaken, 300, SMALL, ["Dense"]),
        (Coupled, 40, Automatic(dense_budget=1000), ["BlockDiagonal", "ProjectedCG"]),
        (ManyRows, 60, Automatic(dense_budget=1000), ["MINRES"]),
        (ManyRows, 60, LARGE, ["MINRES"]),
    ],
)
def test_choice(node, n, solver, expected, used):
    system = make_system(node(), (), n)
    found, reference, failed = solve_both(system, solver)
    assert used == [*expected, "Dense"]  # the last one is the reference
    assert not failed.any()
    for one, other in zip(found, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_the_default_of_implicit_gradients():
    assert ddn.ImplicitGradient().linear_solver == Automatic()


def indefinite(count, n):
    """Systems of which every second one has negative curvature."""
    node = make_node("(n,n)->(n)", lambda H, y: 0.5 * y @ H @ y)
    vectors = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q
    values = torch.linspace(1, 3, n, dtype=torch.float64).repeat(count, 1)
    values[1::2, 0] = -1
    H = vectors @ torch.diag_embed(values) @ vectors.mT
    bound = node.bind(H)
    y = torch.zeros(count, n, dtype=torch.float64)
    return H, KKTSystem(Lagrangian(bound.problem), y, y[:, :0], y[:, :0].bool(), bound.operands)


def test_minres_where_conjugate_gradients_fail(used):
    """Only for the problems concerned, and once for all right sides."""
    H, system = indefinite(4, 12)
    factorization = Automatic(dense_budget=1).factorize(system)
    right = torch.randn(3, 4, 12, dtype=torch.float64)
    u, _, failed = factorization.solve(right, right[..., :0])
    assert not failed.any()
    expected = torch.linalg.solve(H, right.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(u, expected, rtol=1e-9, atol=1e-9)
    assert used.count("MINRES") == 1
    again, _, _ = factorization.solve(right[0], right[0, :, :0])
    torch.testing.assert_close(again, u[0], rtol=1e-9, atol=1e-9)
    assert used.count("MINRES") == 1


def test_failure_of_all_is_reported():
    node = make_node("(n,n)->(n)", lambda H, y: 0.5 * y @ H @ y)
    H = torch.diag(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)) + 0.0
    H[1, 2] = H[2, 1] = 0.1
    bound = node.bind(H)
    y = torch.zeros(3, dtype=torch.float64)
    system = KKTSystem(Lagrangian(bound.problem), y, y[:0], y[:0].bool(), bound.operands)
    factorization = LARGE.factorize(system)
    _, _, failed = factorization.solve(torch.ones(3, dtype=torch.float64), y[:0])
    assert failed
    assert "MINRES" in factorization.failure


def test_fallback_solves_only_what_failed():
    """The others keep what the first solver found, to the last digit."""

    class First:
        failure = "first"

        def solve(self, right_y, right_multipliers):
            failed = torch.zeros(right_y.shape[:-1], dtype=torch.bool)
            failed[..., 1] = True
            return torch.full_like(right_y, 7.0), torch.zeros_like(right_multipliers), failed

    H, system = indefinite(3, 5)
    right = torch.randn(2, 3, 5, dtype=torch.float64)
    solver = WithFallback(system, First(), Dense())
    u, _, failed = solver.solve(right, right[..., :0])
    assert not failed.any()
    assert (u[:, [0, 2]] == 7).all()
    torch.testing.assert_close((H[1] @ u[:, 1].mT).mT, right[:, 1])
    assert "singular" in solver.failure


def test_budget_counts_the_whole_batch(used):
    """The same problem, alone and in a large batch."""
    alone, batch = make_system(Coupled(), (), 30), make_system(Coupled(), (8,), 30)
    solver = Automatic(dense_budget=10_000)
    solver.factorize(alone)
    assert used == ["Dense"]
    solver.factorize(batch)
    assert "Dense" not in used[1:]
