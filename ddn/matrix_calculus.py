"""Vectors of matrices, and the matrices that rearrange them.

``vec`` stacks columns, and so does ``vech``, which keeps the lower triangle: the convention of
Magnus and Neudecker (1980; 2019, chapter 3), whose letters are used here:

==========  ==============================================  ======================================
K_mn        :func:`commutation_matrix`, mn × mn             K_mn vec(A) = vec(Aᵀ) for A m × n
L_n         :func:`elimination_matrix`, n(n+1)/2 × n²       L_n vec(A) = vech(A)
D_n         :func:`duplication_matrix`, n² × n(n+1)/2       D_n vech(S) = vec(S) for S = Sᵀ
N_n         :func:`symmetrizer`, n² × n²                    N_n vec(A) = vec((A + Aᵀ)/2)
==========  ==============================================  ======================================

Every row of K, L and D is a unit vector: to multiply by such a matrix is to select entries. So the
functions of a matrix or a vector select, and never form K, L or D. They take any batch dimensions,
and may be differentiated in every mode and mapped by ``vmap``. The matrices are for reading and
for testing: dense, or coalesced sparse COO with ``sparse=True``; ``dtype`` and ``device`` as in
``torch.eye``.

Sources:
    J. R. Magnus and H. Neudecker, *The elimination matrix: some lemmas and applications*, SIAM
    Journal on Algebraic and Discrete Methods 1 (1980) 422–449. J. R. Magnus and H. Neudecker,
    *Matrix Differential Calculus with Applications in Statistics and Econometrics*, third edition
    (2019), chapter 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddn.errors import DtypeError, ShapeError

__all__ = [
    "commutation_matrix",
    "commute",
    "duplication_matrix",
    "elimination_matrix",
    "symmetrizer",
    "unvec",
    "unvech",
    "vec",
    "vech",
]

Dtype = torch.dtype | None
Device = torch.device | str | None


def vec(matrix: Tensor) -> Tensor:
    """The columns of a matrix, stacked from left to right.

    Args:
        matrix: A, ``(*batch, m, n)``.

    Returns:
        vec(A), ``(*batch, m·n)``, with A[i, j] at position j·m + i.

    Raises:
        ShapeError: the tensor has fewer than two dimensions.

    Example:
        >>> vec(torch.tensor([[1, 2, 3], [4, 5, 6]]))
        tensor([1, 4, 2, 5, 3, 6])
    """
    if matrix.ndim < 2:
        raise _shape_error("vec", "a matrix (*batch, m, n)", matrix)
    return matrix.mT.flatten(-2)


def unvec(vector: Tensor, m: int, n: int) -> Tensor:
    """The m × n matrix with the given columns stacked: the inverse of :func:`vec`.

    Args:
        vector: vec(A), ``(*batch, m·n)``.
        m: number of rows, at least 0.
        n: number of columns, at least 0.

    Returns:
        A, ``(*batch, m, n)``.

    Raises:
        ShapeError: a size is negative, or the vector does not have m·n entries.

    Example:
        >>> unvec(torch.tensor([1, 4, 2, 5, 3, 6]), 2, 3)
        tensor([[1, 2, 3],
                [4, 5, 6]])
    """
    _require_sizes(m=m, n=n)
    if vector.shape[-1:] != (m * n,):
        raise _shape_error(f"unvec to {m} × {n}", f"a vector (*batch, {m * n})", vector)
    return vector.reshape(*vector.shape[:-1], n, m).mT


def vech(matrix: Tensor) -> Tensor:
    """The columns of the lower triangle of a square matrix, diagonal included, stacked.

    The entries above the diagonal are not looked at, and get no gradient.

    Args:
        matrix: A, ``(*batch, n, n)``.

    Returns:
        vech(A), ``(*batch, n(n+1)/2)``: A_11, …, A_n1, A_22, …, A_n2, …, A_nn.

    Raises:
        ShapeError: the matrix is not square.

    Example:
        >>> vech(torch.tensor([[1, 2, 3], [2, 4, 5], [3, 5, 6]]))
        tensor([1, 2, 3, 4, 5, 6])
    """
    if matrix.ndim < 2 or matrix.shape[-2] != matrix.shape[-1]:
        raise _shape_error("vech", "a square matrix (*batch, n, n)", matrix)
    return vec(matrix).index_select(-1, _lower_positions(matrix.shape[-1], matrix.device))


def unvech(vector: Tensor) -> Tensor:
    """The symmetric matrix with the given lower triangle: the inverse of :func:`vech`.

    Args:
        vector: vech(S), ``(*batch, n(n+1)/2)``.

    Returns:
        S = Sᵀ, ``(*batch, n, n)``.

    Raises:
        ShapeError: the number of entries is not n(n+1)/2 for any n.

    Example:
        >>> unvech(torch.tensor([1, 2, 3, 4, 5, 6]))
        tensor([[1, 2, 3],
                [2, 4, 5],
                [3, 5, 6]])
    """
    length = vector.shape[-1] if vector.ndim else -1
    n = (math.isqrt(8 * max(length, 0) + 1) - 1) // 2
    if n * (n + 1) // 2 != length:
        raise _shape_error("unvech", "a vector (*batch, n(n+1)/2), n = 0, 1, …,", vector)
    return unvec(vector.index_select(-1, _half_positions(n, vector.device)), n, n)


def commute(vector: Tensor, m: int, n: int) -> Tensor:
    """K_mn v, that is vec(Aᵀ) from v = vec(A), without the matrix K_mn.

    Args:
        vector: vec(A), ``(*batch, m·n)``, of an m × n matrix A.
        m: number of rows of A, at least 0.
        n: number of columns of A, at least 0.

    Returns:
        vec(Aᵀ), ``(*batch, m·n)``.

    Raises:
        ShapeError: a size is negative, or the vector does not have m·n entries.

    Example:
        >>> commute(torch.tensor([1, 4, 2, 5, 3, 6]), 2, 3)
        tensor([1, 2, 3, 4, 5, 6])
    """
    return vec(unvec(vector, m, n).mT)


def commutation_matrix(
    m: int, n: int, *, dtype: Dtype = None, device: Device = None, sparse: bool = False
) -> Tensor:
    """K_mn, ``(m·n, m·n)``: K_mn vec(A) = vec(Aᵀ) for every m × n matrix A.

    It is a permutation: K_mnᵀ = K_mn⁻¹ = K_nm (Magnus and Neudecker 2019, section 3.7). It is
    part of d vec(YᵀY) = (I + K_nn)(I_n ⊗ Yᵀ) d vec(Y) for Y m × n.

    Raises:
        ShapeError: a size is negative.

    Example:
        >>> commutation_matrix(2, 2)
        tensor([[1., 0., 0., 0.],
                [0., 0., 1., 0.],
                [0., 1., 0., 0.],
                [0., 0., 0., 1.]])
    """
    _require_sizes(m=m, n=n)
    positions = commute(torch.arange(m * n, device=device), m, n)
    return _selection(positions, m * n, dtype, sparse)


def elimination_matrix(
    n: int, *, dtype: Dtype = None, device: Device = None, sparse: bool = False
) -> Tensor:
    """L_n, ``(n(n+1)/2, n²)``: L_n vec(A) = vech(A) for every n × n matrix A.

    It drops the entries above the diagonal: L_n L_nᵀ = I and L_n D_n = I (Magnus and Neudecker
    1980).

    Raises:
        ShapeError: the size is negative.

    Example:
        >>> elimination_matrix(2)
        tensor([[1., 0., 0., 0.],
                [0., 1., 0., 0.],
                [0., 0., 0., 1.]])
    """
    _require_sizes(n=n)
    return _selection(_lower_positions(n, device), n * n, dtype, sparse)


def duplication_matrix(
    n: int, *, dtype: Dtype = None, device: Device = None, sparse: bool = False
) -> Tensor:
    """D_n, ``(n², n(n+1)/2)``: D_n vech(S) = vec(S) for every symmetric n × n matrix S.

    It writes every entry below the diagonal twice (Magnus and Neudecker 2019, section 3.8).

    Raises:
        ShapeError: the size is negative.

    Example:
        >>> duplication_matrix(2)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    _require_sizes(n=n)
    return _selection(_half_positions(n, device), n * (n + 1) // 2, dtype, sparse)


def symmetrizer(
    n: int, *, dtype: Dtype = None, device: Device = None, sparse: bool = False
) -> Tensor:
    """N_n = (I + K_nn)/2, ``(n², n²)``: N_n vec(A) = vec((A + Aᵀ)/2) for every n × n matrix A.

    It is the orthogonal projection onto the symmetric matrices: N_n = N_nᵀ = N_n², of rank
    n(n+1)/2, and N_n = D_n (D_nᵀ D_n)⁻¹ D_nᵀ (Magnus and Neudecker 2019, sections 3.7 and 3.8).

    Raises:
        ShapeError: the size is negative.
        DtypeError: the dtype cannot hold ½.

    Example:
        >>> symmetrizer(2)
        tensor([[1.0000, 0.0000, 0.0000, 0.0000],
                [0.0000, 0.5000, 0.5000, 0.0000],
                [0.0000, 0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000, 1.0000]])
    """
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        raise DtypeError(f"symmetrizer: {dtype} cannot hold ½; use a floating-point dtype")
    _require_sizes(n=n)
    commutation = commutation_matrix(n, n, dtype=dtype, device=device, sparse=sparse)
    positions = torch.arange(n * n, device=device)
    identity = _selection(positions, n * n, dtype, sparse)
    total = identity + commutation
    return 0.5 * (total.coalesce() if sparse else total)


def _lower_positions(n: int, device: Device) -> Tensor:
    """Where vec(A) holds each entry of vech(A): the lower triangle column by column."""
    # The lower triangle by columns is the transpose of the upper triangle by rows.
    columns, rows = torch.triu_indices(n, n, device=device).unbind()
    return columns * n + rows


def _half_positions(n: int, device: Device) -> Tensor:
    """Where vech(S) holds each entry of vec(S).

    Column j of the lower triangle starts at j n − j(j−1)/2 and holds S_jj, …, S_nj.
    """
    indices = torch.arange(n, device=device)
    rows = torch.maximum(indices, indices.unsqueeze(-1))
    columns = torch.minimum(indices, indices.unsqueeze(-1))
    return (columns * n - columns * (columns - 1) // 2 + rows - columns).flatten()


def _selection(positions: Tensor, width: int, dtype: Dtype, sparse: bool) -> Tensor:
    """The matrix with row r equal to the unit vector of ``positions[r]``."""
    rows = torch.arange(len(positions), device=positions.device)
    ones = torch.ones(len(positions), device=positions.device, dtype=dtype)
    shape = (len(positions), width)
    if sparse:
        # One entry a row, rows in order: coalesced as it stands.
        return torch.sparse_coo_tensor(
            torch.stack([rows, positions]), ones, shape, check_invariants=True, is_coalesced=True
        )
    return ones.new_zeros(shape).index_put((rows, positions), ones)


def _require_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 0:
            raise ShapeError(f"the size {name} = {size} is negative; it must be at least 0")


def _shape_error(function: str, needed: str, tensor: Tensor) -> ShapeError:
    return ShapeError(f"{function} needs {needed} but got a tensor of shape {tuple(tensor.shape)}")
