"""Symmetric indefinite systems against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn.linear_solve import equilibrate, factorize, solve_symmetric
from ddn.multipliers import least_squares_multipliers


def relative(actual, expected):
    return float((actual - expected).norm() / expected.norm())


def symmetric(generator, *shape):
    matrix = torch.from_numpy(generator.standard_normal(shape))
    return matrix + matrix.mT


@given(
    n=st.integers(1, 12), k=st.integers(1, 3), seed=st.integers(0, 10**6), power=st.integers(-6, 6)
)
def test_against_numpy(n, k, seed, power):
    generator = np.random.default_rng(seed)
    matrix = symmetric(generator, 3, n, n) * 10.0**power
    right = torch.from_numpy(generator.standard_normal((3, n, k)))
    solution, failed = solve_symmetric(matrix, right)
    assert not failed.any()
    expected = torch.from_numpy(np.linalg.solve(matrix.numpy(), right.numpy()))
    condition = np.linalg.cond(matrix.numpy()).max()
    assert relative(solution, expected) < 1e-14 * n * condition


@given(n=st.integers(1, 9), p=st.integers(0, 4), seed=st.integers(0, 10**6), row=st.integers(-4, 4))
def test_badly_scaled_kkt_matrix(n, p, seed, row):
    """Rows in different units: the scaling of the answer is exact."""
    generator = np.random.default_rng(seed)
    p = min(p, n)
    hessian = symmetric(generator, n, n) + 2 * n * torch.eye(n, dtype=torch.float64)
    jacobian = torch.from_numpy(generator.standard_normal((p, n)))
    zero = torch.zeros(p, p, dtype=torch.float64)
    matrix = torch.cat([torch.cat([hessian, jacobian.mT], 1), torch.cat([jacobian, zero], 1)])
    units = torch.ones(n + p, dtype=torch.float64)
    units[::2] = 10.0 ** (2 * row)
    solution = torch.from_numpy(generator.standard_normal((n + p, 1)))
    scaled = units[:, None] * matrix * units
    actual, failed = solve_symmetric(scaled, scaled @ (solution / units[:, None]))
    assert not bool(failed)
    assert relative(actual * units[:, None], solution) < 1e-9 * float(torch.linalg.cond(matrix))


@given(n=st.integers(1, 10), seed=st.integers(0, 10**6), zeros=st.booleans())
def test_inertia(n, seed, zeros):
    """Signs of the blocks of D are those of the eigenvalues; a zero diagonal forces 2×2 pivots."""
    matrix = symmetric(np.random.default_rng(seed), 5, n, n)
    if zeros and n > 1:
        matrix.diagonal(dim1=-2, dim2=-1).zero_()
    factorization = factorize(matrix)
    if zeros and n > 1:
        assert (factorization.pivots < 0).any()
    eigenvalues = torch.linalg.eigvalsh(matrix)
    blocks = factorization.block_eigenvalues()
    certain = (eigenvalues.abs().amin(-1) > 1e-10) & torch.ones(5, dtype=torch.bool)
    assert torch.equal((blocks < 0).sum(-1)[certain], (eigenvalues < 0).sum(-1)[certain])
    assert torch.equal((blocks > 0).sum(-1)[certain], (eigenvalues > 0).sum(-1)[certain])


def test_block_eigenvalues_of_one_pair():
    matrix = torch.tensor([[0.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    assert factorize(matrix).block_eigenvalues().sort().values.tolist() == [-2, 2]


@pytest.mark.parametrize("size", [150, 200])
def test_large_batch(size, device, dtype):
    """Sizes at which batched LU on CPU fails or hangs."""
    generator = torch.Generator().manual_seed(size)
    matrix = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    matrix = (matrix + matrix.mT).to(device, dtype)
    expected = torch.randn(3, size, 2, generator=generator, dtype=torch.float64).to(device, dtype)
    solution, failed = solve_symmetric(matrix, matrix @ expected)
    assert not failed.any()
    condition = float(torch.linalg.cond(matrix.double()).max())
    assert relative(solution, expected) < 10 * torch.finfo(dtype).eps * condition


def singular(generator, n, rank, device, dtype):
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    values = torch.linspace(1, 2, n, dtype=torch.float64) * (-1) ** torch.arange(n)
    values[rank:] = 0
    matrix = (basis * values) @ basis.mT
    return ((matrix + matrix.mT) / 2).to(device, dtype), basis[:, rank:].to(device, dtype)


def test_singular_systems(device, dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    matrix, null = singular(generator, 6, 4, device, dtype)
    target = torch.randn(6, 2, generator=generator, dtype=torch.float64).to(device, dtype)
    consistent = matrix @ target
    right = torch.stack([consistent, consistent + null, consistent])
    regular = torch.eye(6, device=device, dtype=dtype) * 2
    solution, failed = solve_symmetric(torch.stack([matrix, matrix, regular]), right)
    assert failed.tolist() == [False, True, False]
    torch.testing.assert_close(
        matrix @ solution[0], consistent, rtol=tolerance.gradient, atol=tolerance.gradient
    )
    torch.testing.assert_close(solution[2], consistent / 2)


def test_minimum_norm(device, dtype, tolerance):
    """All rows of unit size, so that equilibration leaves the norm alone."""
    matrix = torch.ones(2, 2, device=device, dtype=dtype)
    solution, failed = solve_symmetric(matrix, torch.full((2, 1), 3.0, device=device, dtype=dtype))
    assert not bool(failed)
    torch.testing.assert_close(
        solution.squeeze(),
        torch.full((2,), 1.5, device=device, dtype=dtype),
        rtol=tolerance.value,
        atol=0.0,
    )


def test_zero_matrix(device, dtype):
    zero = torch.zeros(2, 3, 3, device=device, dtype=dtype)
    right = torch.zeros(2, 3, 1, device=device, dtype=dtype)
    right[1] = 1
    solution, failed = solve_symmetric(zero, right)
    assert failed.tolist() == [False, True]
    assert not solution[0].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_rows_that_are_not_finite(value, device, dtype):
    matrix = torch.eye(3, device=device, dtype=dtype).repeat(4, 1, 1)
    right = torch.ones(4, 3, 1, device=device, dtype=dtype)
    matrix[1, 0, 2] = value
    right[2, 1] = value
    solution, failed = solve_symmetric(matrix, right)
    assert solution.isnan().all((-1, -2)).tolist() == [False, True, True, False]
    assert not failed.any()
    assert (solution[[0, 3]] == 1).all()


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0)])
def test_nothing_to_solve(shape):
    solution, failed = solve_symmetric(torch.zeros(shape), torch.zeros(*shape[:-1], 2))
    assert solution.shape == (*shape[:-1], 2)
    assert failed.shape == shape[:-2]


def test_equilibrate(device, dtype):
    units = torch.tensor([1e-2, 1.0, 1e2, 0.0], device=device, dtype=dtype)
    matrix = units[:, None] * torch.ones(4, 4, device=device, dtype=dtype) * units
    scale = equilibrate(matrix)
    rows = (scale[:, None] * matrix * scale).abs().amax(-1)
    assert (rows[:3] > 0.3).all()
    assert (rows[:3] < 3).all()
    assert scale[3] == 1


def test_least_squares_multipliers(device, dtype, tolerance):
    jacobian = torch.randn(3, 2, 5, device=device, dtype=dtype)
    multipliers = torch.randn(3, 2, device=device, dtype=dtype)
    gradient = -(jacobian.mT @ multipliers.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(
        least_squares_multipliers(gradient, jacobian),
        multipliers,
        rtol=tolerance.gradient,
        atol=tolerance.gradient,
    )
    # A constraint stated twice shares its multiplier evenly.
    twice = torch.cat([jacobian[:, :1], jacobian[:, :1]], -2)
    shared = least_squares_multipliers(-jacobian[:, 0], twice)
    torch.testing.assert_close(
        shared, torch.full_like(shared, 0.5), rtol=tolerance.gradient, atol=tolerance.gradient
    )
    assert least_squares_multipliers(gradient, jacobian[:, :0]).shape == (3, 0)
