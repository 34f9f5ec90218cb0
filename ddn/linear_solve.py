"""Symmetric indefinite systems, batched: LDLᵀ, and what to do when the matrix is singular.

``torch.linalg.solve`` and ``inv`` go through a batched LU that fails or hangs on CPU for sizes of
150 and more (pytorch#142815); the Bunch-Kaufman factorisation LDLᵀ does not, needs half the work, and
tells the inertia.

Nothing here is differentiable by itself: :mod:`ddn.implicit` differentiates the solution of the
system without looking into the factorisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "SymmetricFactorization",
    "SymmetricSystem",
    "equilibrate",
    "factorize",
    "refined",
    "solve_symmetric",
]

# Ruiz (2001): a few sweeps bring all rows of a symmetric matrix to unit size.
_EQUILIBRATION_SWEEPS = 3


@dataclass(frozen=True)
class SymmetricFactorization:
    """K = P L D Lᵀ Pᵀ with 1×1 and 2×2 blocks in D, as LAPACK's ``sytrf`` stores it.

    Attributes:
        factors: ``(*batch, n, n)``.
        pivots: ``(*batch, n)``; a pair of negative pivots marks a 2×2 block.
    """

    factors: Tensor
    pivots: Tensor

    def solve(self, right_side: Tensor) -> Tensor:
        """K⁻¹ B for B ``(*batch, n, k)``."""
        # LAPACK's wrapper does not check, and reads beyond its memory.
        assert right_side.shape[:-1] == self.factors.shape[:-1]
        solution: Tensor = torch.linalg.ldl_solve(self.factors, self.pivots, right_side)
        return solution

    def block_eigenvalues(self) -> Tensor:
        """Eigenvalues of the blocks of D, ``(*batch, n)``; their signs are the inertia of K."""
        diagonal = self.factors.diagonal(dim1=-2, dim2=-1)
        below = torch.zeros_like(diagonal)
        below[..., :-1] = self.factors.diagonal(offset=-1, dim1=-2, dim2=-1)
        paired = self.pivots < 0
        # Negative pivots come in pairs; odd positions of a run open a 2×2 block.
        opens = paired & (paired.cumsum(-1) % 2 == 1)
        following = torch.roll(diagonal, -1, -1)
        center, half = (diagonal + following) / 2, (diagonal - following) / 2
        radius = torch.hypot(half, below)
        upper, lower = center + radius, center - radius
        closes = torch.roll(opens, 1, -1)
        result = torch.where(opens, upper, diagonal)
        return torch.where(closes, torch.roll(lower, 1, -1), result)

    def is_regular(self) -> Tensor:
        """Whether K is numerically nonsingular, ``(*batch,)``."""
        blocks = self.block_eigenvalues().abs()
        threshold = 10 * blocks.shape[-1] * torch.finfo(blocks.dtype).eps
        return blocks.amin(-1) > threshold * blocks.amax(-1)


def factorize(matrix: Tensor) -> SymmetricFactorization:
    """LDLᵀ factorisation of symmetric ``(*batch, n, n)``; only the lower triangle is read."""
    factors, pivots, _ = torch.linalg.ldl_factor_ex(matrix)
    return SymmetricFactorization(factors, pivots)


def equilibrate(matrix: Tensor, num_variables: int | None = None) -> Tensor:
    """Diagonal scaling d ``(*batch, n)`` such that the rows of ``d_i K_ij d_j`` have size about 1.

    That alone does not fix the scale of K = [[H, Jᵀ], [J, ·]] with m variables: for J = (1, 10⁻³) beside
    H = I all entries of J might end at unit size, and H in ruins. So the curvature decides on the units of y,
    and each multiplier is in units of its constraint; a variable without curvature follows the constraints.
    """
    magnitude = matrix.abs()
    ones = torch.ones_like(matrix[..., 0])
    m = matrix.shape[-1] if num_variables is None else num_variables
    if m == matrix.shape[-1] or m == 0:
        return _sweep(magnitude, ones)
    hessian, jacobian = magnitude[..., :m, :m], magnitude[..., m:, :m]
    curved = hessian.amax(-1) > 0
    scale = _sweep(hessian, ones[..., :m])
    along = (jacobian * torch.where(curved, scale, 0).unsqueeze(-2)).amax(-1)
    rows = _reciprocal(torch.where(along > 0, along, jacobian.amax(-1)))
    flat = _reciprocal((rows.unsqueeze(-1) * jacobian).amax(-2))
    scale = torch.where(curved, scale, flat)
    rows = _reciprocal((jacobian * scale.unsqueeze(-2)).amax(-1))
    return _sweep(magnitude, torch.cat([scale, rows], -1))


def _reciprocal(size: Tensor) -> Tensor:
    return torch.where(size > 0, 1 / torch.where(size > 0, size, 1), 1)


def _sweep(magnitude: Tensor, scale: Tensor) -> Tensor:
    for _ in range(_EQUILIBRATION_SWEEPS):
        rows = (magnitude * scale.unsqueeze(-2)).amax(-1) * scale
        scale = torch.where(rows > 0, scale / rows.sqrt(), scale)
    return scale


class SymmetricSystem:
    """K u = b for symmetric, possibly indefinite or singular K, factorized once for many right sides.

    Args:
        matrix: K, ``(*batch, n, n)``.
        num_variables: m, if K is that of a KKT system; see :func:`equilibrate`.
        significant: K without its rounding errors, computed only if K is nearly singular.
    """

    def __init__(
        self,
        matrix: Tensor,
        num_variables: int | None = None,
        significant: Callable[[], Tensor] | None = None,
    ) -> None:
        self._significant = significant
        self.matrix = matrix
        self._num_variables = num_variables
        self._trusted: Tensor | None = None
        if matrix.numel():
            self._factorization = factorize(matrix)
            self._trusted = self._factorization.is_regular()

    def solve(self, right_side: Tensor) -> tuple[Tensor, Tensor]:
        """The solution; see :func:`solve_symmetric`."""
        matrix = self.matrix
        if self._trusted is None:
            failed = matrix.new_zeros(matrix.shape[:-2], dtype=torch.bool)
            return torch.zeros_like(right_side), failed
        solution = refined(self._factorization, matrix, right_side)
        doubtful = ~(self._trusted & solution.isfinite().all(-1).all(-1))
        failed = torch.zeros_like(doubtful)
        if bool(doubtful.any()):
            solution = solution.clone()
            if self._significant is not None:
                matrix = self._significant()
            solution[doubtful], failed[doubtful] = _solve_carefully(
                matrix[doubtful], right_side[doubtful], self._num_variables
            )
        return solution, failed


def solve_symmetric(matrix: Tensor, right_side: Tensor) -> tuple[Tensor, Tensor]:
    """Solve K u = b for symmetric, possibly indefinite K.

    Where K is numerically singular, u is the minimum-norm solution in the equilibrated variables if b
    is in the range of K; where it is not, no solution exists and the problem is reported.

    Args:
        matrix: ``(*batch, n, n)``.
        right_side: ``(*batch, n, k)``.

    Returns:
        u ``(*batch, n, k)`` and a mask ``(*batch,)``, true where no solution exists. Problems with
        NaN or infinite data give NaN, and leave the other problems of the batch untouched.
    """
    return SymmetricSystem(matrix).solve(right_side)


def refined(factorization: SymmetricFactorization, matrix: Tensor, right_side: Tensor) -> Tensor:
    """The solution with one step of iterative refinement: LDLᵀ loses digits to element growth."""
    solution = factorization.solve(right_side)
    return solution + factorization.solve(right_side - matrix @ solution)


def _solve_carefully(
    matrix: Tensor, right_side: Tensor, num_variables: int | None
) -> tuple[Tensor, Tensor]:
    """The same for equilibrated matrices; for singular ones, by eigenvalues."""
    finite = matrix.isfinite().all(-1).all(-1) & right_side.isfinite().all(-1).all(-1)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(finite[..., None, None], matrix, identity)
    scale = equilibrate(matrix, num_variables).unsqueeze(-1)
    scaled, scaled_right = matrix * scale * scale.mT, right_side * scale
    factorization = factorize(scaled)
    solution = refined(factorization, scaled, scaled_right)
    singular = ~(factorization.is_regular() & solution.isfinite().all(-1).all(-1))
    failed = torch.zeros_like(finite)
    if bool(singular.any()):
        special, failed[singular] = _minimum_norm(scaled[singular], scaled_right[singular])
        solution[singular] = special
    return torch.where(finite[..., None, None], solution * scale, torch.nan), failed & finite


def _minimum_norm(matrix: Tensor, right_side: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo-inverse solution by eigenvalues, and whether the right side leaves the range."""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    magnitude = eigenvalues.abs()
    eps = torch.finfo(matrix.dtype).eps
    kept = magnitude > 10 * matrix.shape[-1] * eps * magnitude.amax(-1, keepdim=True)
    coordinates = vectors.mT @ right_side
    inverse = torch.where(kept, 1 / torch.where(kept, eigenvalues, 1), 0)
    outside = torch.where(kept.unsqueeze(-1), 0, coordinates).norm(dim=-2)
    inconsistent = outside > eps**0.5 * right_side.norm(dim=-2)
    return vectors @ (inverse.unsqueeze(-1) * coordinates), inconsistent.any(-1)
