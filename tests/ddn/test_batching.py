"""Mapping functions of one problem over broadcast batches."""

from __future__ import annotations

import pytest
import torch

from ddn.batching import align_mapped_dimensions, expand_batch, vectorize
from tests.ddn.problems import Ridge, ridge


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((), ()),
        ((3, 1), (4,)),
        ((3, 4), (4,)),
        ((1,), (5,)),
        ((2, 1, 3), (4, 1)),
        ((1, 1), (1,)),
        ((3,), ()),
        ((0,), ()),
        ((0,), (1,)),
    ],
)
def test_vectorize_broadcasts_like_numpy(first, second, device, dtype, tolerance):
    A = torch.randn(*first, 2, 3, device=device, dtype=dtype)
    x = torch.randn(*second, 3, device=device, dtype=dtype)
    result = vectorize(torch.mv, (2, 1), (A, x))
    expected = (A @ x.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(result, expected, rtol=tolerance.value, atol=tolerance.value)


def test_vectorize_sees_one_problem():
    seen = []

    def function(A, x, s):
        seen.append((A.shape, x.shape, s.shape))
        return (A @ x).sum() * s

    assert vectorize(
        function, (2, 1, 0), (torch.ones(4, 1, 2, 3), torch.ones(5, 3), torch.ones(1))
    ).shape == (4, 5)
    assert set(seen) == {((2, 3), (3,), ())}


def test_vectorize_several_results():
    x = torch.randn(4, 3)
    first, second = vectorize(lambda x: (x.sum(), x * 2), (1,), (x,))
    assert first.shape == (4,)
    torch.testing.assert_close(second, 2 * x)


def test_shared_tensor_is_not_copied():
    """The mapped function receives the shared matrix itself, not an expanded copy."""
    shared = torch.randn(1, 2, 3)
    pointers = []

    def function(A, x):
        unwrapped = A
        while torch._C._functorch.is_functorch_wrapped_tensor(unwrapped):
            unwrapped = torch._C._functorch.get_unwrapped(unwrapped)
        pointers.append((unwrapped.data_ptr(), unwrapped.numel()))
        return A @ x

    vectorize(function, (2, 1), (shared, torch.randn(6, 3)))
    assert pointers == [(shared.data_ptr(), 6)]


def test_shared_gradient_is_summed(device, dtype, tolerance):
    node = Ridge()
    A = torch.randn(5, 3, device=device, dtype=dtype)
    b = torch.randn(2, 4, 5, device=device, dtype=dtype)
    r = torch.rand(4, device=device, dtype=dtype) + 0.5
    for shape in ((5, 3), (1, 5, 3), (1, 1, 5, 3), (2, 1, 5, 3)):
        shared = A.expand(shape).clone().requires_grad_()
        weight = torch.randn(2, 4, 3, device=device, dtype=dtype)
        (gradient,) = torch.autograd.grad((node(shared, b, r) * weight).sum(), shared)
        (expected,) = torch.autograd.grad((ridge(shared, b, r) * weight).sum(), shared)
        assert gradient.shape == shape
        torch.testing.assert_close(
            gradient, expected, rtol=tolerance.gradient, atol=tolerance.gradient
        )


def test_partial_broadcast_against_loop(device, dtype, tolerance):
    A = torch.randn(3, 1, 5, 2, device=device, dtype=dtype)
    b = torch.randn(4, 5, device=device, dtype=dtype)
    r = torch.rand(3, 4, device=device, dtype=dtype) + 0.5
    y = Ridge()(A, b, r)
    assert y.shape == (3, 4, 2)
    for i in range(3):
        for j in range(4):
            single = Ridge()(A[i, 0], b[j], r[i, j])
            torch.testing.assert_close(y[i, j], single, rtol=tolerance.value, atol=tolerance.value)


def test_strides_do_not_matter(device, dtype, tolerance):
    A = torch.randn(2, 6, 5, device=device, dtype=dtype).mT[:, ::2]
    b = torch.randn(1, 1, device=device, dtype=dtype).expand(2, 3)
    r = torch.ones((), device=device, dtype=dtype).expand(2)
    assert not A.is_contiguous()
    inputs = [A.requires_grad_(), b.requires_grad_(), r.requires_grad_()]
    copies = [value.detach().contiguous().requires_grad_() for value in inputs]
    pairs = [(Ridge()(*inputs), Ridge()(*copies))]
    pairs += zip(
        torch.autograd.grad(pairs[0][0].square().sum(), inputs),
        torch.autograd.grad(pairs[0][1].square().sum(), copies),
        strict=True,
    )
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=tolerance.value, atol=tolerance.value)


@pytest.mark.parametrize("batch", [(0,), (2, 0), (0, 3)])
def test_empty_batch(batch, device, dtype):
    A = torch.randn(*batch, 5, 2, device=device, dtype=dtype, requires_grad=True)
    b = torch.randn(5, device=device, dtype=dtype, requires_grad=True)
    r = torch.ones((), device=device, dtype=dtype)
    y = Ridge()(A, b, r)
    assert y.shape == (*batch, 2)
    assert y.dtype == dtype
    assert y.device.type == device.type
    gradients = torch.autograd.grad(y.sum(), [A, b])
    assert [g.shape for g in gradients] == [A.shape, b.shape]
    assert not gradients[1].any()


def test_expand_batch():
    assert expand_batch(torch.zeros(1, 3), 1, torch.Size((2, 4))).shape == (2, 4, 3)
    assert expand_batch(torch.zeros(3), 1, torch.Size(())).shape == (3,)


def test_align_mapped_dimensions():
    mapped_scalar_rank = torch.zeros(3, 7)  # core (3,), mapped over dimension 1
    batched = torch.zeros(2, 7, 5, 3)  # batch (2, 5), core (3,), mapped over dimension 1
    shared = torch.zeros(5, 3)
    first, second, third = align_mapped_dimensions(
        [mapped_scalar_rank, batched, shared], [1, 1, None], [1, 1, 1]
    )
    assert first.shape == (7, 1, 1, 3)
    assert second.shape == (7, 2, 5, 3)
    assert third.shape == (5, 3)
