"""Conjugate gradients and MINRES: convergence problem by problem, and what they must refuse."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.kkt import MINRES, HutchinsonDiagonal, KKTSystem, ProjectedCG
from ddn.kkt.equilibration import row_scale
from ddn.kkt.free_system import FreeSystem
from ddn.kkt.minres import minimum_residual
from ddn.lagrangian import Lagrangian
from tests.ddn.kkt.cases import Coupled, make_system, solve_both
from tests.ddn.problems import make_node

SOLVERS = {
    "cg": ProjectedCG(),
    "cg-hutchinson": ProjectedCG(preconditioner=HutchinsonDiagonal()),
    "minres": MINRES(),
}


def quadratic(H, A=None):
    """The system of ½ yᵀH y s.t. A y = 0, at zero."""
    constraint = None if A is None else (lambda H, A, y: A @ y)
    if A is None:
        node = make_node("(n,n)->(n)", lambda H, y: 0.5 * y @ H @ y)
        bound = node.bind(H)
    else:
        node = make_node("(n,n),(p,n)->(n)", lambda H, A, y: 0.5 * y @ H @ y, constraint)
        bound = node.bind(H, A)
    y = H.new_zeros(*H.shape[:-2], H.shape[-1])
    multipliers = y.new_zeros(*y.shape[:-1], 0 if A is None else A.shape[-2])
    return KKTSystem(
        Lagrangian(bound.problem), y, multipliers, multipliers[..., :0].bool(), bound.operands
    )


def random_symmetric(eigenvalues):
    """A matrix with given eigenvalues, ``(*batch, n)``."""
    n = eigenvalues.shape[-1]
    vectors = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q.to(eigenvalues)
    return vectors @ torch.diag_embed(eigenvalues) @ vectors.mT


@pytest.fixture
def products(monkeypatch):
    """Counts the products with K."""
    count = [0]
    product = FreeSystem.product

    def counted(self, u, s):
        count[0] += 1
        return product(self, u, s)

    monkeypatch.setattr(FreeSystem, "product", counted)
    return count


@pytest.mark.parametrize("solver", SOLVERS)
def test_hard_neighbour_changes_nothing(solver, tolerance):
    """A problem of condition 10⁶ beside one of condition 3: the easy one is done early and stays."""
    spread = torch.logspace(0, 1, 30, dtype=torch.float64)
    H = random_symmetric(torch.stack([1 + spread / 5, spread**6]))
    right = torch.randn(2, 30, dtype=torch.float64)
    both = quadratic(H)
    u, _, failed = SOLVERS[solver].factorize(both).solve(right, both.multipliers)
    alone = quadratic(H[:1])
    single, _, _ = SOLVERS[solver].factorize(alone).solve(right[:1], alone.multipliers)
    assert not failed[0]
    torch.testing.assert_close(u[:1], single, rtol=1e-14, atol=1e-14)
    if not failed[1]:
        residual = (H[1] @ u[1] - right[1]).norm()
        assert residual <= 1e-8 * right[1].norm()


@pytest.mark.parametrize("solver", SOLVERS)
def test_few_distinct_eigenvalues_need_few_products(solver, products):
    """As many iterations as distinct eigenvalues: the theory of Krylov spaces."""
    H = random_symmetric(torch.tensor([1.0, 2.0, 5.0] * 40, dtype=torch.float64))
    system = quadratic(H)
    factorization = SOLVERS[solver].factorize(system)
    products[0] = 0
    _, _, failed = factorization.solve(torch.randn(120, dtype=torch.float64), system.multipliers)
    assert not failed
    assert products[0] <= (8 if solver != "cg-hutchinson" else 40)


def test_preconditioner_removes_bad_scaling(products):
    scale = torch.logspace(-3, 3, 60, dtype=torch.float64)
    H = random_symmetric(torch.linspace(1, 3, 60, dtype=torch.float64))
    system = quadratic(scale.unsqueeze(-1) * H * scale)
    right = torch.randn(60, dtype=torch.float64)
    factorization = ProjectedCG(preconditioner=HutchinsonDiagonal()).factorize(system)
    products[0] = 0
    u, _, failed = factorization.solve(right, system.multipliers)
    assert not failed
    assert products[0] < 200
    assert ProjectedCG(max_iterations=200).factorize(system).solve(right, system.multipliers)[2]
    expected = torch.linalg.solve(H, right / scale) / scale
    assert ((u - expected) * scale).norm() <= 1e-8 * (expected * scale).norm()


def test_own_preconditioner(products):
    """The exact diagonal of a diagonal matrix: one iteration; nonpositive entries do no harm."""
    d = torch.logspace(-3, 3, 50, dtype=torch.float64)
    system = quadratic(torch.diag(d))
    right = torch.randn(50, dtype=torch.float64)
    factorization = ProjectedCG(preconditioner=lambda system: d).factorize(system)
    products[0] = 0
    u, _, failed = factorization.solve(right, system.multipliers)
    assert products[0] <= 3
    assert not failed
    torch.testing.assert_close(u, right / d)
    shifted = torch.where(d < 0.002, -d, d)
    u, _, failed = (
        ProjectedCG(preconditioner=lambda system: shifted)
        .factorize(system)
        .solve(right, system.multipliers)
    )
    assert failed or torch.allclose(u, right / d)


def test_row_scale_is_uniform_unless_sizes_differ():
    """Noise of the estimate is not taken for a scale."""
    n = 4000
    like = torch.zeros(n, dtype=torch.float64)
    everything = torch.ones(n, dtype=torch.bool)

    def laplacian(x):
        padded = torch.nn.functional.pad(x, (1, 1))
        return 3 * x - padded[2:] - padded[:-2]

    d = row_scale(laplacian, like, everything, 8, signed=True)
    torch.testing.assert_close(d, d[:1].expand(n))
    weight = torch.logspace(-4, 4, n, dtype=torch.float64)
    d = row_scale(lambda x: weight * x, like, everything, 8, signed=True)
    torch.testing.assert_close(d, weight)


def test_negative_curvature_is_refused():
    """On the null space of the constraint; elsewhere it does not matter."""
    H = torch.diag(torch.tensor([-1.0, 2.0, 3.0], dtype=torch.float64))
    right = torch.ones(3, dtype=torch.float64)
    free = quadratic(H)
    assert ProjectedCG().factorize(free).solve(right, free.multipliers)[2]
    u, _, failed = MINRES().factorize(free).solve(right, free.multipliers)
    assert not failed
    torch.testing.assert_close(u, right / H.diagonal())
    A = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    held = quadratic(H, A)
    for solver in (ProjectedCG(), MINRES()):
        found, expected, failed = solve_both(held, solver)
        assert not failed
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("solver", SOLVERS)
def test_too_few_iterations_are_a_failure(solver):
    H = random_symmetric(torch.linspace(1, 100, 40, dtype=torch.float64))
    kind = type(SOLVERS[solver])
    system = quadratic(H.expand(2, 40, 40))
    factorization = kind(max_iterations=2).factorize(system)
    right = torch.randn(2, 40, dtype=torch.float64)
    right[1] = 0
    _, _, failed = factorization.solve(right, system.multipliers)
    assert failed.tolist() == [True, False]
    assert "max_iterations" in factorization.failure
    assert "nan" in factorization.failure


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("consistent", [True, False])
def test_singular(solver, consistent):
    """The solution of minimum norm where there is one, else a failure."""
    H = random_symmetric(torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    system = quadratic(H)
    right = torch.randn(6, dtype=torch.float64)
    if consistent:
        right = H @ right
    u, _, failed = SOLVERS[solver].factorize(system).solve(right, system.multipliers)
    assert bool(failed) == (not consistent)
    if consistent:
        expected = torch.linalg.pinv(H) @ right
        torch.testing.assert_close(u, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_constraints_stated_twice(solver):
    """u is unique, multipliers are those of minimum norm."""
    H = random_symmetric(torch.linspace(1, 4, 7, dtype=torch.float64))
    A = torch.randn(2, 7, dtype=torch.float64)
    system = quadratic(H, torch.cat([A, A[:1]]))
    right = torch.randn(7, dtype=torch.float64)
    u, s, failed = SOLVERS[solver].factorize(system).solve(right, system.multipliers)
    assert not failed
    once = quadratic(H, A)
    expected, multipliers, _ = ddn.kkt.Dense().factorize(once).solve(right, once.multipliers)
    torch.testing.assert_close(u, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(s[0] + s[2], multipliers[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(s[0], s[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_contradictory_constraints_are_refused(solver):
    H = torch.eye(4, dtype=torch.float64)
    A = torch.ones(2, 4, dtype=torch.float64)
    system = quadratic(H.expand(2, 4, 4), A)
    right = torch.zeros(2, 2, dtype=torch.float64)
    right[0] = torch.tensor([1.0, 1.0])
    right[1] = torch.tensor([1.0, 2.0])
    _, _, failed = SOLVERS[solver].factorize(system).solve(system.y, right)
    assert failed.tolist() == [False, True]


def test_as_many_rows_as_variables(tolerance):
    """The split form of total variation, and nothing of size m² needed for it."""
    n = 200

    node = make_node(
        "(n)->(n),(k)",
        lambda x, y, z: 0.5 * (y - x).square().sum() + (z.square() + 0.1).sqrt().sum(),
        lambda x, y, z: y.diff() - z,
        dimensions={"k": n - 1},
    )
    x = torch.randn(n, dtype=torch.float64)
    bound = node.bind(x)
    y = torch.cat([x, x.diff()])
    multipliers = torch.randn(n - 1, dtype=torch.float64)
    system = KKTSystem(
        Lagrangian(bound.problem), y, multipliers, multipliers[:0].bool(), bound.operands
    )
    found, expected, failed = solve_both(system, MINRES())
    assert not failed
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_minimum_residual_of_least_squares():
    """For an inconsistent system the iteration ends; where it is consistent, at minimum norm."""
    A = random_symmetric(torch.tensor([0.0, 1.0, -2.0, 3.0], dtype=torch.float64))
    b = torch.randn(3, 4, dtype=torch.float64)
    b[1] = A @ b[1]
    calls = 0

    def product(x):
        nonlocal calls
        calls += 1
        return x @ A

    pending = torch.tensor([True, True, False])
    x = minimum_residual(product, b, pending, 1e-14, 1000)
    assert calls < 20
    torch.testing.assert_close(x[1], torch.linalg.pinv(A) @ b[1], rtol=1e-9, atol=1e-9)
    gradient = A @ (A @ x[0] - b[0])
    assert gradient.norm() <= 1e-7 * b[0].norm()
    assert not x[2].any()


def test_further_right_sides_converge_on_their_own():
    """An easy and a hard right side of one system, and a zero one."""
    eigenvalues = torch.logspace(0, 3, 30, dtype=torch.float64)
    H = torch.diag(eigenvalues)
    system = quadratic(H)
    right = torch.zeros(3, 30, dtype=torch.float64)
    right[0, 4] = 1
    right[1] = torch.randn(30, dtype=torch.float64)
    for solver in SOLVERS.values():
        u, _, failed = solver.factorize(system).solve(right, torch.zeros(3, 0).double())
        assert not failed.any()
        torch.testing.assert_close(u, right / eigenvalues, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("solver", SOLVERS)
def test_systems_of_medium_size(solver, tolerance):
    system = make_system(Coupled(), (2,), 120)
    found, expected, failed = solve_both(system, SOLVERS[solver])
    assert not failed.any()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance.gradient, atol=tolerance.gradient)
