"""Shared diagonal Hessians take another way than dense ones, and get the same answers."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

import ddn
from ddn.quadratic.data import QuadraticData
from ddn.quadratic.factor import DiagonalFactor, TriangularFactor, factor_or_identity
from tests.ddn.quadratic.programs import random_program

SOLVERS = [
    ddn.solvers.PrimalDualActiveSet(),
    ddn.solvers.DAQP(),
    ddn.solvers.InteriorPoint(),
]


def _solve_and_differentiate(parts: dict[str, Tensor], solver: ddn.solvers.Solver) -> list[Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in parts.items()}
    y = ddn.nodes.QuadraticProgram(solver=solver)(**leaves)
    weights = torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype)
    gradients = torch.autograd.grad((y * weights).sum(), list(leaves.values()))
    return [
        y,
        *(g.sum_to_size(parts[name].shape) for name, g in zip(leaves, gradients, strict=True)),
    ]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@given(
    seed=st.integers(0, 10_000),
    p=st.integers(0, 3),
    k=st.integers(0, 5),
    bounds=st.booleans(),
    is_identity=st.booleans(),
)
def test_shared_diagonal_and_dense_hessians_agree(
    solver, tolerance, seed, p, k, bounds, is_identity
):
    parts = random_program((3,), 6, p, k, bounds, seed)
    diagonal = torch.ones(6, dtype=torch.float64)
    if not is_identity:
        diagonal = 10 ** torch.linspace(-1, 1, 6, dtype=torch.float64)
    parts["Q"] = torch.diag(diagonal)
    shared = _solve_and_differentiate(parts, solver)
    whole = _solve_and_differentiate({**parts, "Q": parts["Q"].expand(3, 6, 6).clone()}, solver)
    whole[1] = whole[1].sum(0)
    for one, other in zip(shared, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance.gradient, atol=tolerance.gradient)


@pytest.mark.parametrize("Q", [torch.eye(4), torch.diag(torch.tensor([2.0, 1e-8, 3.0, 1e8]))])
def test_a_diagonal_is_found_and_factorized_exactly(Q):
    Q = Q.double()
    diagonal = QuadraticData(Q, torch.zeros(4).double()).diagonal
    assert torch.equal(diagonal, Q.diagonal())
    factor, dense = DiagonalFactor(diagonal.sqrt()), TriangularFactor(torch.linalg.cholesky(Q))
    vector, rows = torch.randn(5, 4).double(), torch.randn(3, 4).double()
    for first, second in (
        (factor.lower(vector), dense.lower(vector)),
        (factor.upper(vector), dense.upper(vector)),
        (factor.columns(rows), dense.columns(rows)),
    ):
        torch.testing.assert_close(first, second, rtol=1e-14, atol=0)


def test_a_dense_or_batched_hessian_has_no_diagonal():
    q = torch.zeros(2).double()
    assert (
        QuadraticData(torch.tensor([[1.0, 1e-300], [0.0, 1.0]], dtype=torch.float64), q).diagonal
        is None
    )
    assert QuadraticData(torch.eye(2).double().expand(3, 2, 2), q).diagonal is None


def test_what_is_not_positive_definite_is_the_identity():
    matrices = torch.stack([torch.eye(2), -torch.eye(2), torch.ones(2, 2)]).double()
    factor, regular = factor_or_identity(matrices)
    assert regular.tolist() == [True, False, False]
    assert torch.equal(factor.matrix, torch.eye(2).double().expand(3, 2, 2))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_zero_on_the_diagonal_takes_the_dense_way(scale, tolerance):
    # ½ y₁² − y₁ + 0·y₂ with y₁ + y₂ = 1: y = (1, 0), whatever the unit of f.
    Q = scale * torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    q = scale * torch.tensor([[-1.0, 0.0]] * 2, dtype=torch.float64)
    A, b = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    y = ddn.nodes.QuadraticProgram()(Q, q, A, b)
    expected = torch.tensor([[1.0, 0.0]] * 2, dtype=torch.float64)
    torch.testing.assert_close(y, expected, rtol=tolerance.gradient, atol=tolerance.gradient)


@given(seed=st.integers(0, 10_000), copies=st.integers(1, 3))
def test_rows_that_repeat_an_equality_are_told_apart_from_it(seed, copies, tolerance):
    """What equality rows leave of such a row is rounding: it is no pivot, and another solver decides."""
    parts = random_program((4,), 5, 2, 3, False, seed)
    alone = ddn.nodes.QuadraticProgram()(**parts)
    parts["G"] = torch.cat([parts["G"], parts["A"][:, :1].expand(-1, copies, -1)], 1)
    parts["h"] = torch.cat([parts["h"], parts["b"][:, :1].expand(-1, copies)], 1)
    y = ddn.nodes.QuadraticProgram(solver=ddn.solvers.PrimalDualActiveSet())(**parts)
    torch.testing.assert_close(y, alone, rtol=tolerance.solver, atol=tolerance.solver)
