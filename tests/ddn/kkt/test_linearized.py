"""Products with a derivative that is linearized once."""

from __future__ import annotations

import pytest
import torch

from ddn.kkt import linearized
from ddn.kkt.linearized import (
    Linearized,
    apply_matrix,
    generic_direction,
    largest,
    random_signs,
)


def function(y, z):
    return y.sin() * z, (y * z).sum(-1, keepdim=True).square()


@pytest.fixture(params=[(), (3,), (2, 3)], ids=["one", "batch", "batch2"])
def point(request, device, dtype):
    return [torch.randn(*request.param, 4, device=device, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("extra", [(), (5,), (2, 3)])
@pytest.mark.parametrize("chunk", [0, 64, 2**18], ids=["one by one", "some", "all"])
def test_products(point, extra, chunk, monkeypatch, tolerance):
    monkeypatch.setattr(linearized, "_CHUNK", chunk)
    values, pullback = torch.func.vjp(function, *point)
    direction = [torch.randn(*extra, *v.shape).to(v) for v in values]
    product = Linearized(function, *point, size=16)(*direction)
    single = pullback
    for _ in extra:
        single = torch.func.vmap(single)
    expected = single(tuple(direction))
    for one, other in zip(product, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance.value, atol=tolerance.value)


def test_under_a_transform(point, tolerance):
    """Mapped or differentiated from outside, products are the same numbers."""

    def product(y):
        return Linearized(lambda y: y.square(), y, size=1)(torch.ones_like(y))[0]

    y = point[0].reshape(-1, 4)
    torch.testing.assert_close(
        torch.func.vmap(product)(y), 2 * y, rtol=tolerance.value, atol=tolerance.value
    )


def test_function_without_dependence(device, dtype):
    y = torch.randn(3, device=device, dtype=dtype)
    product = Linearized(lambda y: torch.ones_like(y).detach(), y, size=1)
    assert torch.equal(product(y)[0], torch.zeros_like(y))
    assert torch.equal(product(y.expand(2, 3))[0], torch.zeros(2, 3, device=device, dtype=dtype))


def test_matrices_are_applied_to_vectors_of_more_dimensions(device, dtype, tolerance):
    matrix = torch.randn(2, 5, 3, device=device, dtype=dtype)
    for extra in ((), (4,), (4, 6)):
        vectors = torch.randn(*extra, 2, 3, device=device, dtype=dtype)
        expected = torch.einsum("bij,...bj->...bi", matrix, vectors)
        torch.testing.assert_close(
            apply_matrix(matrix, vectors), expected, rtol=tolerance.value, atol=tolerance.value
        )


def test_largest(device, dtype):
    vector = torch.tensor([[1, -3, 2], [0, 0, 0.5]], device=device, dtype=dtype)
    assert largest(vector).tolist() == [3, 0.5]
    assert largest(vector[:, :0]).tolist() == [0, 0]
    vector[0, 0] = torch.nan
    assert largest(vector).isnan().tolist() == [True, False]


def test_directions_are_reproducible_and_generic(device, dtype):
    like = torch.empty(2, 10_000, device=device, dtype=dtype)
    generic = generic_direction(like)
    assert generic.dtype == dtype
    assert 0.5 <= generic.min() < generic.max() <= 1.5
    if dtype == torch.float64:
        assert len(generic.unique()) == 10_000
    signs = random_signs(like, 3)
    assert signs.shape == (3, 2, 10_000)
    assert torch.equal(signs.abs(), torch.ones_like(signs))
    assert torch.equal(signs, random_signs(like, 3))
    assert signs.mean().abs() < 0.05
    assert not torch.equal(signs, random_signs(like, 3, seed=1))
