from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn_etf.errors import FrameSizeError
from ddn_etf.frames import centering_matrix, simplex_basis, simplex_etf

sizes = st.integers(2, 20).flatmap(lambda K: st.tuples(st.just(K), st.integers(K - 1, K + 10)))


@given(sizes, st.none() | st.integers(0, 100))
def test_rows_are_unit_vectors_with_equal_cosines(dtype, device, tolerance, size, seed):
    K, d = size
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    W = simplex_etf(K, d, generator=generator, dtype=dtype, device=device)
    assert W.shape == (K, d)
    assert (W.dtype, W.device.type) == (dtype, device.type)
    expected = torch.full((K, K), -1 / (K - 1), dtype=dtype, device=device).fill_diagonal_(1)
    assert_close(W @ W.mT, expected, rtol=0, atol=tolerance.value)
    assert_close(W.sum(dim=0), torch.zeros_like(W[0]), rtol=0, atol=tolerance.value)


def test_canonical_frame_is_the_centring_matrix_padded():
    K, d = 4, 7
    W = simplex_etf(K, d, dtype=torch.float64)
    expected = math.sqrt(K / (K - 1)) * (torch.eye(K).double() - 1 / K) @ torch.eye(K, d).double()
    assert_close(W, expected, rtol=0, atol=1e-15)


def test_generator_decides_the_rotation():
    first, again, other = (
        simplex_etf(5, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.1
    assert (first - simplex_etf(5, 8)).abs().max() > 0.1


def test_random_rotation_has_no_preferred_direction():
    generator = torch.Generator().manual_seed(0)
    frames = torch.stack([simplex_etf(3, 3, generator=generator) for _ in range(2000)])
    # Uniform on the sphere: mean zero and covariance I/d, up to 1/√2000 = 0.022.
    assert frames.mean(dim=0).abs().max() < 0.07
    for rows in frames.unbind(dim=1):
        assert (rows.mT @ rows / 2000 - torch.eye(3) / 3).abs().max() < 0.07


@pytest.mark.parametrize("num_classes", [1, 2, 7])
def test_centering_matrix_removes_the_mean(dtype, device, tolerance, num_classes):
    M = centering_matrix(num_classes, dtype=dtype, device=device)
    x = torch.randn(num_classes, dtype=dtype, device=device)
    assert_close(M @ x, x - x.mean(), rtol=tolerance.value, atol=tolerance.value)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100])
def test_basis_spans_the_complement_of_ones(dtype, device, tolerance, num_classes):
    Q = simplex_basis(num_classes, dtype=dtype, device=device)
    assert Q.shape == (num_classes, num_classes - 1)
    close = {"rtol": 0, "atol": tolerance.value}
    assert_close(Q.mT @ Q, torch.eye(num_classes - 1, dtype=dtype, device=device), **close)
    assert_close(Q @ Q.mT, centering_matrix(num_classes, dtype=dtype, device=device), **close)


def test_default_dtype_and_device_are_those_of_torch():
    torch.set_default_dtype(torch.float64)
    try:
        assert simplex_etf(3, 4).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert simplex_basis(3).dtype == torch.float32
    with torch.device("meta"):
        assert simplex_etf(3, 4).device.type == "meta"


@pytest.mark.parametrize(("num_classes", "dim"), [(1, 5), (0, 5), (5, 3), (3, 0)])
def test_impossible_sizes_are_refused(num_classes, dim):
    with pytest.raises(FrameSizeError, match=r"num_classes is|dim is") as error:
        simplex_etf(num_classes, dim)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("make", [simplex_basis, lambda K: simplex_etf(K, 5)])
def test_fewer_than_two_classes_are_refused(make):
    with pytest.raises(FrameSizeError, match="at least 2"):
        make(1)


@pytest.mark.parametrize("value", [3.0, "3", True, None])
def test_sizes_must_be_integers(value):
    for make in (centering_matrix, simplex_basis, lambda K: simplex_etf(K, 5)):
        with pytest.raises(TypeError, match="must be an integer"):
            make(value)
    with pytest.raises(TypeError, match="must be an integer"):
        simplex_etf(3, value)


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match="at least"):
        centering_matrix(0)
    with pytest.raises(ValueError, match="at least"):
        simplex_etf(3, -1)


def test_integer_dtype_is_refused():
    with pytest.raises(TypeError, match="floating-point"):
        simplex_etf(3, 4, dtype=torch.int64)
