from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn_etf._lengths import rows_of_length, unit_norm


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 4),
    columns=st.integers(1, 5),
    exponent=st.integers(-200, 150),
    length=st.floats(0.1, 10),
)
def test_rows_have_the_length_and_the_derivative_of_the_formula(
    seed, rows, columns, exponent, length
):
    torch.manual_seed(seed)
    x = torch.randn(rows, columns, dtype=torch.float64) * 10.0**exponent
    x[0] = 0
    x.requires_grad_()
    y = rows_of_length(x, length)
    assert torch.equal(y[0], torch.zeros(columns, dtype=torch.float64))
    assert_close(y[1:].norm(dim=1), torch.full((rows - 1,), length, dtype=torch.float64))
    cotangent = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    u = y.detach() / length
    across = cotangent - u * (u * cotangent).sum(1, keepdim=True)
    # Both sides in units of the rows, which may be as small as 1e-200.
    expected = length * across[1:] / (x.detach()[1:] * u[1:]).sum(1, keepdim=True)
    scale = expected.abs().amax(1, keepdim=True).clamp(min=1e-300)
    assert (gradient[0] == 0).all()
    assert (
        (gradient[1:] - expected).abs() <= 1e-12 * scale + 1e-12 * length * 10.0**-exponent
    ).all()


def test_values_do_not_depend_on_who_differentiates():
    x = 10 * torch.randn(5, 3)
    assert torch.equal(rows_of_length(x, 2.0), rows_of_length(x.requires_grad_(), 2.0))


def test_higher_derivatives_and_transforms():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rows_of_length(x, 2.0), x)
    assert torch.autograd.gradgradcheck(lambda x: rows_of_length(x, 2.0), x)
    jacobians = [
        transform(lambda x: rows_of_length(x, 2.0))(x.detach())
        for transform in (torch.func.jacrev, torch.func.jacfwd)
    ]
    by_autograd = torch.autograd.functional.jacobian(lambda x: rows_of_length(x, 2.0), x)
    for jacobian in jacobians:
        assert_close(jacobian, by_autograd, rtol=0, atol=1e-14)


@pytest.mark.parametrize("exponent", [-30, 0, 30])
def test_unit_norm(exponent):
    matrix = torch.randn(3, 4) * 10.0**exponent
    largest = matrix.abs().amax()
    result, norm = unit_norm(matrix, largest)
    assert_close(result.norm(), torch.tensor(1.0))
    assert_close((norm * largest * result), matrix)
    assert not unit_norm(matrix, torch.tensor(torch.inf))[0].any()
