"""The orthogonal polar factor against SVD and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

import ddn
from ddn.errors import DerivativeError, SolveError
from ddn.nodes import orthogonal_procrustes
from ddn.polar import polar_decompose, polar_pull_back

CONDITIONS = [1.0, 1e2, 1e4, 9e4, 2e5, 1e7, 1e10]


def with_singular_values(values, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    r = len(values)
    left = torch.linalg.qr(torch.randn(d, r, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(r, r, generator=generator, dtype=torch.float64)).Q
    return (left * torch.as_tensor(values, dtype=torch.float64)) @ right.mT, left @ right.mT


def spread(condition, r=4):
    return np.geomspace(1.0, 1.0 / condition, r)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("shape", [(4, 4), (9, 4), (60, 60), (70, 60), (600, 520)])
def test_against_svd(condition, shape):
    """Accurate to the conditioning of the factor, by every route."""
    d, r = shape
    matrix, known = with_singular_values(spread(condition, r), d)
    polar = polar_decompose(matrix)
    expected = torch.from_numpy(scipy.linalg.polar(matrix.numpy())[0])
    bound = 100 * r * torch.finfo(torch.float64).eps
    assert float((polar.factor - expected).norm()) < bound * condition
    assert float((polar.factor - known).norm()) < bound * condition
    identity = torch.eye(r, dtype=torch.float64)
    assert float((polar.factor.mT @ polar.factor - identity).norm()) < bound
    stretch = (polar.basis * polar.values) @ polar.basis.mT
    assert float((polar.factor @ stretch - matrix).norm()) < bound * 1e3
    assert float((polar.reciprocals * polar.values - 1).norm()) < bound


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("columns", [4, 60])
def test_scale_does_not_matter(columns, scale, device, dtype, tolerance):
    matrix, known = with_singular_values(spread(10, columns), columns + 2)
    factor = polar_decompose((scale * matrix).to(device, dtype)).factor
    torch.testing.assert_close(
        factor, known.to(device, dtype), rtol=tolerance.value, atol=tolerance.value
    )


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e9, 1e12])
def test_gradient_scales_inversely(scale, device, dtype, tolerance):
    """C ↦ c C leaves V alone and divides the gradient by c."""
    matrix = with_singular_values(spread(10), 6)[0].to(device, dtype)
    weight = torch.randn(6, 4, device=device, dtype=dtype)
    expected = gradient_of(orthogonal_procrustes, matrix, weight)
    actual = gradient_of(orthogonal_procrustes, scale * matrix, weight) * scale
    torch.testing.assert_close(actual, expected, rtol=tolerance.gradient, atol=tolerance.gradient)


def gradient_of(function, matrix, weight):
    matrix = matrix.detach().clone().requires_grad_()
    return torch.autograd.grad((function(matrix) * weight).sum(), matrix)[0]


def by_roots(matrix):
    """C (CᵀC)^{-1/2} by eigenvalues: differentiable where these are simple."""
    squares, basis = torch.linalg.eigh(matrix.mT @ matrix)
    return matrix @ (basis / squares.sqrt().unsqueeze(-2)) @ basis.mT


@pytest.mark.parametrize("shape", [(4, 4), (7, 4), (5, 1), (70, 60)])
def test_gradient_against_autograd(shape, device, dtype, tolerance):
    matrix = torch.randn(3, *shape, device=device, dtype=dtype)
    matrix = matrix + 4 * torch.eye(*shape, device=device, dtype=dtype)
    weight = torch.randn(3, *shape, device=device, dtype=dtype)
    expected = gradient_of(by_roots, matrix.double(), weight.double()).to(dtype)
    actual = gradient_of(orthogonal_procrustes, matrix, weight)
    size = float(expected.abs().max())
    torch.testing.assert_close(
        actual, expected, rtol=tolerance.gradient, atol=tolerance.gradient * size
    )


@pytest.mark.parametrize("shape", [(3, 3), (5, 3)])
def test_repeated_singular_values(shape):
    """At C = c Q with orthonormal Q, where the derivative of the SVD divides by zero."""
    matrix = torch.linalg.qr(torch.randn(*shape, dtype=torch.float64)).Q * 3
    matrix.requires_grad_()
    assert torch.autograd.gradcheck(orthogonal_procrustes, matrix, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(orthogonal_procrustes, matrix)


@pytest.mark.parametrize("columns", [10, 64])
@pytest.mark.parametrize("condition", [1.0, 1e1, 1e2, 1e3])
def test_float32_accuracy(condition, columns, device):
    """Value and gradient within 1e-4 relative of float64 up to condition number 1e3."""
    matrix = with_singular_values(spread(condition, columns), 80)[0].to(device)
    # The rounding of the input itself is not the algorithm's error.
    matrix = matrix.float().double()
    weight = torch.randn(80, columns, dtype=torch.float64, device=device).float().double()
    exact = orthogonal_procrustes(matrix)
    value = orthogonal_procrustes(matrix.float()).double()
    assert float((value - exact).norm() / exact.norm()) < 1e-4
    exact = gradient_of(orthogonal_procrustes, matrix, weight)
    gradient = gradient_of(orthogonal_procrustes, matrix.float(), weight.float()).double()
    assert float((gradient - exact).norm() / exact.norm()) < 1e-4


@pytest.mark.parametrize("columns", [4, 60])
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e8])
def test_gradient_of_ill_conditioned_matrix(condition, columns):
    """Known answer: C = U Σ Wᵀ and G = U E Wᵀ give C̄ = U X Wᵀ, X = (E − Eᵀ) / (σ_i + σ_j)."""
    generator = torch.Generator().manual_seed(1)
    matrix, _ = with_singular_values(spread(condition, columns), columns + 2, seed=3)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    coefficients = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    weight = left @ coefficients @ right
    known = left @ ((coefficients - coefficients.mT) / (values[:, None] + values)) @ right
    gradient = gradient_of(orthogonal_procrustes, matrix, weight)
    error = float((gradient - known).norm() / known.norm())
    assert error < 100 * columns * torch.finfo(torch.float64).eps * condition


@pytest.mark.parametrize("values", [[2.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
def test_rank_deficient(values, device, dtype):
    """Some polar factor: orthonormal columns and V S = C; gradient finite (pseudo-inverse)."""
    matrix = with_singular_values(values, 5)[0].to(device, dtype)
    polar = polar_decompose(matrix)
    factor = polar.factor
    eps = torch.finfo(dtype).eps
    identity = torch.eye(3, device=device, dtype=dtype)
    assert float((factor.mT @ factor - identity).norm()) < 100 * eps
    assert (
        float((factor @ (polar.basis * polar.values) @ polar.basis.mT - matrix).norm()) < 100 * eps
    )
    cotangent = torch.randn(5, 3, device=device, dtype=dtype)
    gradient = polar_pull_back(matrix, factor, cotangent, *polar[1:])
    assert bool(gradient.isfinite().all())


def test_batched_against_single(device, dtype, tolerance):
    """A batch in which one matrix needs the SVD and others do not."""
    matrices = [with_singular_values(spread(c), 6, seed=i)[0] for i, c in enumerate([1, 1e9, 30])]
    batch = torch.stack(matrices).reshape(3, 1, 6, 4).to(device, dtype)
    result = polar_decompose(batch)
    assert [tuple(part.shape) for part in result] == [
        (3, 1, 6, 4),
        (3, 1, 4, 4),
        (3, 1, 4),
        (3, 1, 4),
    ]
    for index in (0, 2):
        single = polar_decompose(batch[index, 0])
        torch.testing.assert_close(
            result.factor[index, 0], single.factor, rtol=tolerance.value, atol=tolerance.value
        )


def test_keeps_dtype_and_device(device):
    for dtype in (torch.float32, torch.float64):
        parts = polar_decompose(torch.randn(5, 3, device=device, dtype=dtype))
        assert all(part.dtype == dtype and part.device.type == device.type for part in parts)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("columns", [4, 60])
def test_short_formula_agrees_with_the_differentiable_one(condition, columns):
    """``polar_pull_back`` has fewer products where no derivative of it can be asked for."""
    matrix, _ = with_singular_values(spread(condition, columns), columns + 3)
    polar = polar_decompose(matrix)
    cotangent = torch.randn(columns + 3, columns, dtype=torch.float64)
    arguments = (matrix, polar.factor, cotangent, *polar[1:])
    long = polar_pull_back(*arguments)
    with torch.no_grad():
        short = polar_pull_back(*arguments)
    error = float((short - long).norm() / long.norm())
    assert error < 100 * columns * torch.finfo(torch.float64).eps * condition


@pytest.mark.parametrize("values", [[2.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
def test_both_formulas_agree_for_rank_deficient_matrices(values):
    matrix, _ = with_singular_values(values, 5)
    polar = polar_decompose(matrix)
    arguments = (matrix, polar.factor, torch.randn(5, 3, dtype=torch.float64), *polar[1:])
    long = polar_pull_back(*arguments)
    with torch.no_grad():
        short = polar_pull_back(*arguments)
    torch.testing.assert_close(short, long, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("columns", [4, 60])
def test_bad_matrices_leave_others_alone(columns, device, dtype, tolerance):
    """NaN, infinity and rank deficiency in single matrices of a batch."""
    good, known = with_singular_values(spread(10, columns), columns)
    batch = good.repeat(4, 1, 1)
    batch[1, 0, 0], batch[2, 0, 0] = torch.nan, torch.inf
    batch[3, :, 0] = batch[3, :, 1]
    batch = batch.to(device, dtype).requires_grad_()
    node = ddn.nodes.OrthogonalProcrustes(on_failure="nan")
    factor = node(batch)
    assert factor.isnan().all((-1, -2)).tolist() == [False, True, True, True]
    torch.testing.assert_close(
        factor[0], known.to(device, dtype), rtol=tolerance.value, atol=tolerance.value
    )
    weight = torch.randn(columns, columns, device=device, dtype=dtype)
    (gradient,) = torch.autograd.grad((factor[0] * weight).sum(), batch)
    expected = gradient_of(orthogonal_procrustes, batch[0], weight)
    torch.testing.assert_close(
        gradient[0], expected, rtol=tolerance.gradient, atol=tolerance.gradient
    )
    with pytest.raises(SolveError, match=r"element\(s\) 1, 2, 3") as caught:
        orthogonal_procrustes(batch)
    assert caught.value.indices == [(1,), (2,), (3,)]


def test_a_small_singular_value_costs_no_digits_of_a_gradient_that_is_free_of_it(tolerance):
    """In float32, as good as with a record of the operations, and as against float64."""
    values = torch.tensor([1.0, 0.7, 0.5, 1e-6], dtype=torch.float64)
    matrix = with_singular_values(values, 9)[0]
    exact = polar_decompose(matrix)
    smallest = exact.basis[:, exact.values.argmin()]
    cotangent = torch.randn(9, 4, dtype=torch.float64)
    cotangent -= torch.outer(cotangent @ smallest, smallest)
    expected = polar_pull_back(matrix, exact.factor, cotangent, *exact[1:])
    polar = polar_decompose(matrix.float())
    with torch.no_grad():
        found = polar_pull_back(None, polar.factor, cotangent.float(), *polar[1:])
    across = torch.eye(4, dtype=torch.float64) - torch.outer(smallest, smallest)
    error = (found.double() - expected) @ across
    assert error.norm() < 1e-5 * expected.norm()


def test_the_matrix_is_needed_where_the_gradient_may_be_differentiated():
    polar = polar_decompose(torch.randn(5, 3))
    with pytest.raises(TypeError, match="needs the matrix"):
        polar_pull_back(None, polar.factor, torch.randn(5, 3), *polar[1:])


def test_the_old_vmap_is_refused_where_its_second_derivative_would_be_wrong():
    matrix = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    directions = torch.randn(4, 6, 3, dtype=torch.float64)

    def batched(**options):
        found = torch.autograd.grad(
            orthogonal_procrustes(matrix), matrix, directions, is_grads_batched=True, **options
        )
        return found[0]

    single = [torch.autograd.grad(orthogonal_procrustes(matrix), matrix, v)[0] for v in directions]
    torch.testing.assert_close(batched(), torch.stack(single))
    with pytest.raises(DerivativeError, match=r"torch\.func\.jacrev"):
        batched(create_graph=True)
