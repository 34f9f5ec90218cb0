"""Rotated copies of a frame: the same angles between its vectors, elsewhere in space.

A frame of K vectors in r dimensions, one per row of F (K, r), is moved into R^d by a matrix V (d, r)
with orthonormal columns: F Vᵀ has the same Gram matrix F Fᵀ. The other way round, every frame
(K, d) of rank r is F Vᵀ for a factor F with r columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import FeatureError, FrameSizeError
from ddn_etf.frames._rounding import round_once
from ddn_etf.validation import check_count, check_floating

__all__ = [
    "FrameFactors",
    "as_frame",
    "check_generator",
    "factorize_frame",
    "random_orthonormal",
    "rotated_copy",
]


class FrameFactors(NamedTuple):
    """A frame (K, d) of rank r as F Vᵀ with VᵀV = I.

    Attributes:
        factor: F, (K, r), with linearly independent columns.
        basis: V, (d, r).
    """

    factor: Tensor
    basis: Tensor


def as_frame(frame: Tensor) -> Tensor:
    """A frame (K, d) in float64 on the host, checked.

    Raises:
        DtypeError: not a floating-point tensor, or one on the meta device, which has no values.
        ShapeError: not a matrix, or an empty one.
        FeatureError: NaN or infinity; names the first such row.
        FrameSizeError: every vector is zero.
    """
    check_floating("frame", frame)
    if frame.ndim != 2 or frame.numel() == 0:
        raise ShapeError(
            f"frame must have shape (K, d), one vector per row, found {tuple(frame.shape)}"
        )
    if frame.is_meta:
        raise DtypeError(
            "frame lies on the meta device, where tensors have no values, and its values are needed; "
            'build it with device="cpu"'
        )
    exact = frame.detach().to("cpu", torch.float64, copy=True)
    finite = torch.isfinite(exact).all(dim=1)
    if not finite.all():
        row = int(finite.int().argmin())
        raise FeatureError(f"frame holds NaN or infinity, first in row {row}")
    if not exact.any():
        raise FrameSizeError("every vector of the frame is zero: there is nothing to point at")
    return exact


def check_generator(generator: object) -> None:
    """Check that a source of random numbers is one, and not a seed.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, found {generator!r}; with a seed: "
            "torch.Generator().manual_seed(seed)"
        )


def random_orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Orthonormal columns, uniform on the Stiefel manifold; (rows, columns), float64, on the host.

    QR of a Gaussian matrix with the diagonal of R made positive (Mezzadri 2007).

    Raises:
        TypeError: a size is not an integer, or the generator is none.
        ValueError: a size is below 1, or there are more columns than rows.
    """
    check_generator(generator)
    check_count("columns", columns, 1)
    check_count("rows", rows, columns)
    gaussian = torch.randn(
        rows, columns, dtype=torch.float64, generator=generator, device=generator.device
    )
    orthonormal, triangular = torch.linalg.qr(gaussian.cpu())
    uniform: Tensor = orthonormal * triangular.diagonal().sign()
    return uniform


def rotated_copy(
    frame: Tensor,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The frame F (K, r) moved into d dimensions: F Vᵀ with VᵀV = I; all angles and lengths stay.

    Args:
        frame: F, (K, r).
        dim: d, at least the rank of the frame, and at least r without a generator.
        generator: source of a random rotation V; without one, zeros are appended, V = I_{d×r}.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Returns:
        (K, d).

    Raises:
        FrameSizeError: d is too small for the frame.
        DtypeError, ShapeError, FeatureError: see :func:`as_frame`.
    """
    check_count("dim", dim, 1)
    exact = as_frame(frame)
    if exact.shape[1] > dim:
        exact = factorize_frame(exact).factor
    if exact.shape[1] > dim:
        raise FrameSizeError(
            f"the vectors of the frame span {exact.shape[1]} dimensions and dim is {dim}; use "
            f"dim >= {exact.shape[1]}"
        )
    if generator is None:
        return round_once(torch.nn.functional.pad(exact, (0, dim - exact.shape[1])), dtype, device)
    V = random_orthonormal(dim, exact.shape[1], generator)
    return round_once(exact @ V.mT, dtype, device)


def factorize_frame(frame: Tensor) -> FrameFactors:
    """F and V with frame = F Vᵀ and VᵀV = I, F (K, r) without redundant columns; on the host.

    A frame whose columns are linearly independent is its own factor, with V = I. Otherwise F is
    lower triangular in the first r independent rows, with a positive diagonal, as in a Cholesky
    factorisation: unique, so that the same factor comes out on every machine.

    Directions that are shorter than 1e-6 times the longest (1e-5 for dtypes narrower than float64)
    are taken for rounding errors and left out.

    Args:
        frame: (K, d).

    Returns:
        Both factors in float64, on the host whatever the default device is.

    Raises:
        DtypeError, ShapeError, FeatureError: see :func:`as_frame`.
    """
    exact = as_frame(frame)
    K, d = exact.shape
    smallest = 1e-6 if frame.dtype == torch.float64 else 1e-5
    values = torch.linalg.svdvals(exact)
    rank = int((values > smallest * values[0]).sum())
    if rank == d:
        return FrameFactors(exact, torch.eye(d, dtype=torch.float64, device="cpu"))
    order = list(range(K))
    orthonormal, triangular = torch.linalg.qr(exact.mT)
    pivots = triangular.diagonal()[:rank].abs()
    if not (pivots > smallest * values[0]).all():
        # The first r rows are dependent: begin with r rows that are not.
        pivoted = scipy.linalg.qr(exact.numpy().T, mode="r", pivoting=True)[1]
        chosen = sorted(int(row) for row in pivoted[:rank])
        order = chosen + sorted(set(order) - set(chosen))
        orthonormal, triangular = torch.linalg.qr(exact[order].mT)
    signs = triangular.diagonal()[:rank].sign()
    factor = exact.new_empty(K, rank)
    factor[np.asarray(order)] = triangular[:rank].mT * signs
    return FrameFactors(factor, orthonormal[:, :rank] * signs)
