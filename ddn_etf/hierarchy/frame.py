"""The hierarchy-aware frame: unit vectors whose angles follow the distances in a tree.

Liang and Davis, "Inducing Neural Collapse to a Fixed Hierarchy-Aware Frame for Reducing Mistake
Severity" (2023). With E = exp(-γ D/D_max), entry by entry, the cosines between the vectors are

    S = (1-s) E + s 11ᵀ :

1 on the diagonal and the smaller the farther two classes are apart. The smaller s, the farther all
classes are from each other; the smallest s >= -1 for which S is positive semidefinite, so that
vectors with these cosines exist, is known exactly.

Let E be positive definite, q = 1ᵀE⁻¹1 and -1 <= s < 0 (s >= 0 is always possible). By the
substitution x = E^{-1/2} y,

    S ⪰ 0   ⟺   (1-s) I ⪰ -s (E^{-1/2}1)(E^{-1/2}1)ᵀ   ⟺   1-s >= -s q   ⟺   s >= -1/(q-1) ,

for the matrix on the right has rank one and the eigenvalue -s q. Hence s* = max(-1, -1/(q-1)), and
where the maximum is the second number S is singular along E⁻¹1: with these weights, the vectors of
the frame add up to zero. (q > 1: by the Cauchy-Schwarz inequality q >= K²/(1ᵀE1), and 1ᵀE1 < K².)

For an ultrametric D, the heights in a tree, E is positive definite whatever γ > 0 is (Martínez,
Michon and San Martín, 1994). Solving with E is accurate for q even where E is ill-conditioned: a
rounding error ΔE changes q by -(E⁻¹1)ᵀ ΔE (E⁻¹1), where nothing is divided by small eigenvalues.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn_etf.errors import FrameSizeError
from ddn_etf.frames import rotated_copy
from ddn_etf.hierarchy.errors import HierarchyError
from ddn_etf.hierarchy.ultrametric import as_distances
from ddn_etf.validation import check_count, check_real

__all__ = ["Distances", "class_cosines", "hierarchy_aware_frame", "smallest_shift"]

Distances = Tensor | NDArray[Any] | Sequence[Sequence[float]]
"""What is taken for a matrix D of distances, (K, K)."""


def smallest_shift(distances: Distances, gamma: float = 2.0) -> float:
    """s* = max(-1, -1/(1ᵀE⁻¹1 - 1)),  E = exp(-γ D/D_max): the smallest s with S ⪰ 0.

    Args:
        distances: D, (K, K), positive off the diagonal, of a :class:`~ddn_etf.hierarchy.Hierarchy`
            or otherwise.
        gamma: γ > 0.

    Returns:
        In [-1, 0).

    Raises:
        HierarchyError: not such a matrix, or E is not positive definite.
        ValueError: γ is not a positive number.
    """
    return _shift(_decay(as_distances(distances), gamma))


def class_cosines(distances: Distances, gamma: float = 2.0) -> Tensor:
    """S = (1-s*) E + s* 11ᵀ: the cosines between the vectors of the hierarchy-aware frame.

    Args:
        distances: D, (K, K), positive off the diagonal.
        gamma: γ > 0; the larger, the less it matters how far apart two classes are. For γ → ∞ all
            cosines become -1/(K-1), those of the simplex ETF.

    Returns:
        (K, K) float64.

    Raises:
        HierarchyError: not such a matrix, or E is not positive definite.
        ValueError: γ is not a positive number.
    """
    E = _decay(as_distances(distances), gamma)
    s = _shift(E)
    return ((1 - s) * E + s).fill_diagonal_(1.0)


def hierarchy_aware_frame(
    distances: Distances,
    dim: int,
    gamma: float = 2.0,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """K unit vectors in d dimensions with W Wᵀ = S, see :func:`class_cosines`.

    Without a generator W is lower triangular with a positive diagonal and zeros appended, the
    Cholesky factor of S; with one it is rotated at random. Of a flat hierarchy, with all distances
    equal, it is a simplex ETF.

    Args:
        distances: D, (K, K), positive off the diagonal: the heights of lowest common ancestors.
        dim: d >= rank of S, which is K - 1, or K where s* = -1.
        gamma: γ > 0; 2 in the source for CIFAR-100.
        generator: source of a random rotation.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Returns:
        (K, d); the rows are the frame.

    Raises:
        HierarchyError: not such a matrix, or E is not positive definite: distances of no tree, or
            classes that are too close to be told apart in float64.
        FrameSizeError: d is too small.
        TypeError: ``dim`` is not an integer, γ not a number, or distances that are none.
        ValueError: γ is not a positive number.
    """
    check_count("dim", dim, 1)
    factor = _triangular_factor(class_cosines(distances, gamma))
    rank = factor.shape[1]
    if dim < rank:
        raise FrameSizeError(
            f"dim is {dim}: the {len(factor)} vectors of this hierarchy-aware frame span {rank} "
            f"dimensions; use dim >= {rank}"
        )
    return rotated_copy(factor, dim, generator=generator, dtype=dtype, device=device)


def _decay(D: Tensor, gamma: float) -> Tensor:
    check_real("gamma", gamma)
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma must be a positive number, found {gamma}")
    E = torch.exp(-gamma * (D / D.max()))
    twins = (E == 1) & (D > 0)
    if twins.any():
        i, j = torch.nonzero(twins)[0].tolist()
        raise HierarchyError(
            f"classes {i} and {j} cannot be told apart: exp(-γ D/D_max) rounds to 1 for their "
            f"distance {D[i, j].item():g}, with γ = {gamma:g} and D_max = {D.max().item():g}; merge "
            "them, or use a larger γ or distances of closer size"
        )
    return E


def _shift(E: Tensor) -> float:
    factor, failed = torch.linalg.cholesky_ex(E)
    if failed:
        raise HierarchyError(
            "exp(-γ D/D_max) is not positive definite, so no vectors have these angles for any "
            "s < 0: either the distances are those of no tree "
            "(Hierarchy.from_distances(distances, linkage='average') makes one), or some are so "
            "much smaller than others that float64 cannot tell them apart"
        )
    # 1ᵀE⁻¹1 = ‖L⁻¹1‖².
    ones = torch.ones(len(E), 1, dtype=E.dtype, device="cpu")
    q = float(torch.linalg.solve_triangular(factor, ones, upper=False).square().sum())
    return -1.0 if q <= 2 else -1 / (q - 1)


def _triangular_factor(S: Tensor) -> Tensor:
    """F (K, r), lower triangular, with F Fᵀ = S and r the rank of S.

    A Cholesky factorisation would stop at the last pivot, which is zero; an eigendecomposition is
    as accurate for singular matrices, but its signs and bases differ between machines. So the
    second is brought to the form of the first.
    """
    values, vectors = torch.linalg.eigh(S)
    rounding = len(S) * torch.finfo(S.dtype).eps * values[-1]
    positive = values > rounding
    root = vectors[:, positive] * values[positive].sqrt()
    triangular = torch.linalg.qr(root.mT).R
    signs = torch.where(triangular.diagonal() < 0, -1.0, 1.0).to(S.dtype)
    F = (signs.unsqueeze(1) * triangular).mT + 0.0  # no minus zeros
    # The lengths are known: 1.
    unit: Tensor = F / torch.linalg.vector_norm(F, dim=1, keepdim=True)
    return unit
