"""Equations in a symmetric positive definite matrix given by its eigenbasis."""

from __future__ import annotations

import pytest
import torch

from ddn.sylvester import divide_right, reciprocal, solve_sylvester


def positive_definite(*batch, size=4, device="cpu", dtype=torch.float64, repeated=False):
    basis = torch.linalg.qr(torch.randn(*batch, size, size, device=device, dtype=torch.float64)).Q
    values = torch.linspace(1, 3, size, device=device, dtype=torch.float64).expand(*batch, size)
    if repeated:
        values = torch.full_like(values, 2.0)
    matrix = (basis * values.unsqueeze(-2)) @ basis.mT
    return matrix.to(dtype), basis.to(dtype), values.to(dtype)


def decomposed(matrix):
    with torch.no_grad():
        values, basis = torch.linalg.eigh(matrix)
    return basis, values


@pytest.mark.parametrize("repeated", [False, True])
def test_solutions(repeated, device, dtype, tolerance):
    matrix, basis, values = positive_definite(3, device=device, dtype=dtype, repeated=repeated)
    right = torch.randn(3, 4, 4, device=device, dtype=dtype)
    x = solve_sylvester(matrix, right, basis, values)
    torch.testing.assert_close(
        matrix @ x + x @ matrix, right, rtol=tolerance.gradient, atol=tolerance.gradient
    )
    tall = torch.randn(3, 7, 4, device=device, dtype=dtype)
    x = divide_right(matrix, tall, basis, values)
    torch.testing.assert_close(x @ matrix, tall, rtol=tolerance.gradient, atol=tolerance.gradient)


def explicit_sylvester(matrix, right):
    """(I ⊗ S + S ⊗ I) vec X = vec R, for symmetric S."""
    size = matrix.shape[-1]
    identity = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    system = torch.kron(identity, matrix) + torch.kron(matrix, identity)
    return torch.linalg.solve(system, right.reshape(-1)).reshape(size, size)


def symmetrize(matrix):
    return (matrix + matrix.mT) / 2


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("order", ["rev", "fwd", "rev_rev", "fwd_rev", "rev_fwd", "fwd_fwd"])
def test_derivatives_against_explicit_system(order, repeated, device, dtype, tolerance):
    matrix, *_ = positive_definite(size=3, device=device, dtype=dtype, repeated=repeated)
    right = torch.randn(3, 3, device=device, dtype=dtype)
    basis, values = decomposed(matrix)
    weight = torch.randn(3, 3, device=device, dtype=dtype)

    def actual(m, r):
        return (solve_sylvester(symmetrize(m), r, basis, values) * weight).sum()

    def expected(m, r):
        return (explicit_sylvester(symmetrize(m), r) * weight).sum()

    transforms = {"rev": torch.func.jacrev, "fwd": torch.func.jacfwd}
    for name in reversed(order.split("_")):
        actual = transforms[name](actual, argnums=(0, 1))
        # Reverse mode only: forward mode twice through torch.linalg.solve is wrong in torch 2.13.
        expected = torch.func.jacrev(expected, argnums=(0, 1))
    values_and_known = zip(
        torch.utils._pytree.tree_leaves(actual(matrix, right)),
        torch.utils._pytree.tree_leaves(expected(matrix, right)),
        strict=True,
    )
    bound = tolerance.second_order if "_" in order else tolerance.gradient
    for value, known in values_and_known:
        torch.testing.assert_close(value, known, rtol=bound, atol=bound)


def test_gradcheck_division():
    matrix, *_ = positive_definite(2, size=3)
    right = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)

    def function(m, r):
        m = symmetrize(m)
        return divide_right(m, r, *decomposed(m))

    inputs = (matrix.requires_grad_(), right)
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(
        function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True
    )


def test_vmap(device, dtype, tolerance):
    matrix, basis, values = positive_definite(5, device=device, dtype=dtype)
    right = torch.randn(4, 4, 5, device=device, dtype=dtype)
    mapped = torch.func.vmap(solve_sylvester, in_dims=(0, 2, 0, 0))(matrix, right, basis, values)
    expected = solve_sylvester(matrix, right.movedim(2, 0), basis, values)
    torch.testing.assert_close(mapped, expected, rtol=tolerance.value, atol=tolerance.value)
    shared = torch.func.vmap(divide_right, in_dims=(None, 0, None, None))(
        matrix[0], right.movedim(2, 0), basis[0], values[0]
    )
    torch.testing.assert_close(
        shared @ matrix[0], right.movedim(2, 0), rtol=tolerance.gradient, atol=tolerance.gradient
    )


def test_eigenbasis_may_be_rough():
    """The refinement with S itself squares a relative error of the eigenvalues."""
    matrix, basis, values = positive_definite()
    right = torch.randn(4, 4, dtype=torch.float64)
    x = solve_sylvester(matrix, right, basis, values * (1 + 1e-6))
    assert float((matrix @ x + x @ matrix - right).norm()) < 1e-10


def test_reciprocal(dtype):
    eps = torch.finfo(dtype).eps
    values = torch.tensor([[[4.0, 2.0, eps, 0.0]], [[0.0, 0.0, 0.0, 0.0]]], dtype=dtype)
    assert reciprocal(values).tolist() == [[[0.25, 0.5, 0, 0]], [[0, 0, 0, 0]]]


def test_free_entries_are_zero(device, dtype, tolerance):
    """A singular S: the part of R in the range is solved, the free part is 0."""
    values = torch.tensor([0.0, 0.0, 2.0], device=device, dtype=dtype)
    basis = torch.eye(3, device=device, dtype=dtype)
    right = torch.ones(3, 3, device=device, dtype=dtype)
    x = solve_sylvester(torch.diag(values), right, basis, values)
    expected = torch.tensor(
        [[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0.25]], device=device, dtype=dtype
    )
    torch.testing.assert_close(x, expected, rtol=tolerance.value, atol=tolerance.value)
