"""Cholesky where H is positive definite, LDLᵀ elsewhere."""

from __future__ import annotations

import torch

from ddn.kkt import SchurComplement
from ddn.kkt import schur as module
from tests.ddn.kkt.cases import solve_both
from tests.ddn.kkt.test_iterative import quadratic, random_symmetric


def test_problems_that_are_not_definite_go_through_ldl(monkeypatch):
    """Indefinite, singular and ill-conditioned ones; the constraint makes up for each."""
    eigenvalues = torch.linspace(1, 2, 6, dtype=torch.float64).repeat(4, 1)
    H = torch.diag_embed(eigenvalues)
    H[1, 0, 0], H[2, 0, 0], H[3, 0, 0] = -1, 0, 1e-17
    A = torch.eye(6, dtype=torch.float64)[:1] + 0.1
    selected = []
    dense = module.DenseFactorization

    def watched(reduced, *arguments):
        selected.append(len(reduced.hessian))
        return dense(reduced, *arguments)

    monkeypatch.setattr(module, "DenseFactorization", watched)
    system = quadratic(H, A)
    found, expected, failed = solve_both(system, SchurComplement())
    assert not failed.any()
    assert selected == [3]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_constraints_stated_twice():
    H = random_symmetric(torch.linspace(1, 2, 5, dtype=torch.float64))
    A = torch.randn(1, 5, dtype=torch.float64)
    system = quadratic(H, torch.cat([A, A]))
    right = torch.randn(5, dtype=torch.float64)
    u, s, failed = SchurComplement().factorize(system).solve(right, system.multipliers)
    assert not failed
    assert (A @ u).abs() < 1e-10
    torch.testing.assert_close(H @ u + A[0] * s.sum(), right)


def test_no_solution_is_a_failure():
    H = torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64)).expand(2, 2, 2)
    system = quadratic(H)
    right = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    u, _, failed = SchurComplement().factorize(system).solve(right, system.multipliers)
    assert failed.tolist() == [False, True]
    torch.testing.assert_close(u[0], right[0])
