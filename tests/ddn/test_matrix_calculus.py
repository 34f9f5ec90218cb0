"""The identities of Magnus and Neudecker, and the transforms of torch, on every function."""

from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn import matrix_calculus
from ddn.errors import DtypeError, ShapeError
from ddn.matrix_calculus import (
    commutation_matrix,
    commute,
    duplication_matrix,
    elimination_matrix,
    symmetrizer,
    unvec,
    unvech,
    vec,
    vech,
)

sizes = st.integers(0, 6)
batch_shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)

# Each function of one tensor, with a shape that it takes.
OPERATIONS = {
    "vec": (vec, (3, 4)),
    "unvec": (lambda vector: unvec(vector, 3, 4), (12,)),
    "vech": (vech, (4, 4)),
    "unvech": (unvech, (10,)),
    "commute": (lambda vector: commute(vector, 3, 4), (12,)),
}
MATRICES = {
    "commutation": lambda **options: commutation_matrix(3, 2, **options),
    "elimination": lambda **options: elimination_matrix(3, **options),
    "duplication": lambda **options: duplication_matrix(3, **options),
    "symmetrizer": lambda **options: symmetrizer(3, **options),
}
operations = pytest.mark.parametrize(
    ("function", "shape"), OPERATIONS.values(), ids=OPERATIONS.keys()
)
matrices = pytest.mark.parametrize("build", MATRICES.values(), ids=MATRICES.keys())


@pytest.fixture
def normal(device, dtype):
    """Draw normal numbers of the shape given."""
    return lambda *shape: torch.randn(*shape, device=device, dtype=dtype)


@pytest.fixture
def options(device, dtype):
    return {"device": device, "dtype": dtype}


def multiply(matrix, vector):
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def kronecker_product(A, B):
    # Not torch.kron, which fails on some transposed views (torch 2.13).
    blocks = torch.einsum("ij,kl->ikjl", A, B)
    return blocks.reshape(A.shape[0] * B.shape[0], A.shape[1] * B.shape[1])


def equal(actual, expected):
    assert_close(actual, expected, rtol=0, atol=0)


# The identities. Selections copy numbers, so they hold exactly.


@given(m=sizes, n=sizes, batch=batch_shapes)
def test_vec_stacks_columns(m, n, batch):
    A = torch.randn(*batch, m, n)
    columns = [A[..., j] for j in range(n)]
    equal(vec(A), torch.cat(columns, -1) if n else A.new_zeros(*batch, 0))
    equal(unvec(vec(A), m, n), A)


@given(n=sizes, batch=batch_shapes)
def test_vech_stacks_columns_of_the_lower_triangle(n, batch):
    A = torch.randn(*batch, n, n)
    columns = [A[..., j:, j] for j in range(n)]
    equal(vech(A), torch.cat(columns, -1) if n else A.new_zeros(*batch, 0))


@given(n=sizes, batch=batch_shapes)
def test_unvech_is_the_inverse_of_vech(n, batch):
    half = torch.randn(*batch, n * (n + 1) // 2)
    S = unvech(half)
    equal(S, S.mT)
    equal(vech(S), half)


@given(m=sizes, n=sizes, batch=batch_shapes)
def test_commutation_transposes(m, n, batch):
    A = torch.randn(*batch, m, n)
    equal(multiply(commutation_matrix(m, n), vec(A)), vec(A.mT))
    equal(commute(vec(A), m, n), vec(A.mT))


@given(m=sizes, n=sizes)
def test_commutation_is_a_permutation(m, n):
    K = commutation_matrix(m, n)
    equal(K.mT, commutation_matrix(n, m))
    equal(K @ commutation_matrix(n, m), torch.eye(m * n))


@given(n=sizes)
def test_elimination_and_duplication(n):
    A = torch.randn(n, n)
    S = A + A.mT
    L, D = elimination_matrix(n), duplication_matrix(n)
    equal(multiply(L, vec(A)), vech(A))
    equal(multiply(D, vech(S)), vec(S))
    equal(L @ D, torch.eye(n * (n + 1) // 2))
    equal(L @ L.mT, torch.eye(n * (n + 1) // 2))
    # On symmetric matrices duplication undoes elimination, and commutation does nothing.
    equal(multiply(D @ L, vec(S)), vec(S))
    equal(commutation_matrix(n, n) @ D, D)


@given(n=sizes)
def test_symmetrizer_is_the_projection_onto_symmetric_matrices(n):
    A = torch.randn(n, n)
    N, D = symmetrizer(n), duplication_matrix(n)
    equal(multiply(N, vec(A)), vec((A + A.mT) / 2))
    equal(N, N.mT)
    equal(N @ N, N)
    # The pseudo-inverse of D is (DᵀD)⁻¹Dᵀ, and DᵀD is diagonal with entries 1 and 2.
    equal(N, D @ torch.diag(1 / (D.mT @ D).diagonal()) @ D.mT)


@given(m=sizes, n=sizes, p=sizes, q=sizes)
def test_vec_of_a_product(dtype, tolerance, m, n, p, q):
    A, X, B = (torch.randn(*shape, dtype=dtype) for shape in ((m, n), (n, p), (p, q)))
    actual, expected = vec(A @ X @ B), multiply(kronecker_product(B.mT, A), vec(X))
    assert_close(actual, expected, rtol=tolerance.value, atol=tolerance.value)


@given(m=sizes, n=sizes, p=sizes, q=sizes)
def test_commutation_swaps_the_factors_of_a_kronecker_product(dtype, m, n, p, q):
    A, B = torch.randn(m, n, dtype=dtype), torch.randn(p, q, dtype=dtype)
    K_pm, K_nq = commutation_matrix(p, m, dtype=dtype), commutation_matrix(n, q, dtype=dtype)
    equal(K_pm @ kronecker_product(A, B) @ K_nq, kronecker_product(B, A))


# The derivative of YᵀY: the reason why the engine keeps half of a symmetric constraint.


@pytest.mark.parametrize(("m", "n"), [(3, 3), (5, 3), (7, 1)])
def test_derivative_of_the_gram_matrix(normal, options, tolerance, m, n):
    Y = normal(m, n)
    jacobian = torch.func.jacrev(lambda y: vec(unvec(y, m, n).mT @ unvec(y, m, n)))(vec(Y))
    eye = torch.eye(n, **options)
    formula = 2 * symmetrizer(n, **options) @ kronecker_product(eye, Y.mT)
    assert_close(jacobian, formula, rtol=tolerance.gradient, atol=tolerance.gradient)
    # Rank n(n+1)/2: the n² rows are dependent, and those that elimination keeps are not.
    rank = n * (n + 1) // 2
    assert torch.linalg.matrix_rank(jacobian) == rank
    assert torch.linalg.matrix_rank(elimination_matrix(n, **options) @ jacobian) == rank


# The transforms.


@operations
def test_derivatives_of_first_and_second_order(device, function, shape):
    x = torch.randn(2, *shape, device=device, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        function, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )

    # Linear functions have no second derivative: square them to have one to check.
    def square(x):
        return function(x) ** 2

    assert torch.autograd.gradgradcheck(square, x, check_fwd_over_rev=True, check_rev_over_rev=True)


@operations
def test_jvp_is_the_function_itself(normal, function, shape):
    x, tangent = normal(2, *shape), normal(2, *shape)
    value, derivative = torch.func.jvp(function, (x,), (tangent,))
    equal(value, function(x))
    equal(derivative, function(tangent))


@operations
def test_vmap_is_a_loop(normal, function, shape):
    x = normal(3, *shape)
    equal(torch.vmap(function)(x), torch.stack([function(row) for row in x]))
    equal(torch.vmap(function, in_dims=-1)(x.movedim(0, -1)), function(x))


@operations
def test_jacobians_agree(normal, function, shape):
    x = normal(*shape)
    equal(torch.func.jacrev(function)(x), torch.func.jacfwd(function)(x))


@operations
def test_compiles_without_a_graph_break(normal, function, shape):
    x = normal(2, *shape)
    equal(torch.compile(function, backend="aot_eager", fullgraph=True)(x), function(x))


@operations
def test_non_contiguous_input(normal, function, shape):
    x = normal(*shape[::-1], 2).permute(*range(len(shape), -1, -1))
    assert not x.is_contiguous()
    equal(function(x), function(x.contiguous()))


def test_gradient_of_vech_ignores_the_upper_triangle(normal):
    A = normal(3, 3).requires_grad_()
    vech(A).sum().backward()
    equal(A.grad, torch.ones_like(A).tril())


def test_gradient_of_unvech_adds_both_halves(normal):
    half = normal(6).requires_grad_()
    unvech(half).sum().backward()
    equal(half.grad, 2 * torch.ones_like(half) - vech(torch.eye(3).to(half)))


# The form of the matrices.


@matrices
def test_sparse_and_dense_agree(build, options):
    dense, sparse = build(**options), build(**options, sparse=True)
    assert sparse.layout is torch.sparse_coo
    assert sparse.is_coalesced()
    equal(sparse.to_dense(), dense)
    for matrix in (dense, sparse):
        assert matrix.dtype == options["dtype"]
        assert matrix.device.type == options["device"].type


@matrices
def test_default_dtype(build):
    assert build().dtype == torch.get_default_dtype()


def test_integer_selections():
    equal(elimination_matrix(2, dtype=torch.int64).sum(0), torch.tensor([1, 1, 0, 1]))


def test_examples_in_the_docstrings():
    result = doctest.testmod(matrix_calculus, extraglobs={"torch": torch})
    assert result.attempted >= len(matrix_calculus.__all__)
    assert result.failed == 0


# Errors.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vec(torch.zeros(3)), r"vec needs a matrix .* shape \(3,\)"),
        (lambda: unvec(torch.zeros(2, 5), 2, 3), r"unvec to 2 × 3 .*6\) .* shape \(2, 5\)"),
        (lambda: unvec(torch.tensor(1.0), 1, 1), r"unvec to 1 × 1 .* shape \(\)"),
        (lambda: unvec(torch.zeros(6), -2, -3), r"m = -2 is negative"),
        (lambda: vech(torch.zeros(2, 3)), r"vech needs a square matrix .* shape \(2, 3\)"),
        (lambda: vech(torch.zeros(4)), r"vech needs a square matrix .* shape \(4,\)"),
        (lambda: unvech(torch.zeros(2, 4)), r"unvech needs a vector .* shape \(2, 4\)"),
        (lambda: unvech(torch.tensor(1.0)), r"unvech needs a vector .* shape \(\)"),
        (lambda: commute(torch.zeros(5), 2, 3), r"6\) .* shape \(5,\)"),
        (lambda: commutation_matrix(2, -1), r"n = -1 is negative"),
        (lambda: elimination_matrix(-1), r"n = -1 is negative"),
        (lambda: duplication_matrix(-1), r"n = -1 is negative"),
        (lambda: symmetrizer(-1), r"n = -1 is negative"),
    ],
)
def test_wrong_sizes(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_symmetrizer_needs_a_dtype_that_holds_a_half():
    with pytest.raises(DtypeError, match="int64 cannot hold ½"):
        symmetrizer(2, dtype=torch.int64)
