"""How strictly complementary a solution is: whether its derivative exists or is one-sided."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddn.conic.cones import Kind
from ddn.conic.pattern import Pattern

__all__ = ["strictness"]

Array = NDArray[np.float64]


def strictness(pattern: Pattern, s: Array, z: Array) -> Array:
    """Smallest eigenvalue of s + z over the cones that have eigenvalues, ``(batch,)``.

    On the nonnegative, second-order and semidefinite cone, s and z have the same eigenvectors, and for each
    of them one of the two eigenvalues vanishes. If both do, a constraint binds with a multiplier of zero,
    and the projection has a kink. For exponential and power cones, which have no eigenvalues, the size
    of the larger of s and z.

    Args:
        pattern: of the cone program.
        s: slacks in units of their size, ``(batch, m)``.
        z: multipliers, likewise.
    """
    result = np.full(len(s), np.inf)
    with np.errstate(invalid="ignore"):
        for block in pattern.blocks:
            if block.kind is Kind.ZERO:
                continue
            shape = (len(s), block.count, block.size)
            smallest: Array
            total = (s + z)[:, block.rows].reshape(shape)
            if block.kind is Kind.NONNEGATIVE:
                smallest = total[..., 0]
            elif block.kind is Kind.SECOND_ORDER:
                smallest = total[..., 0] - np.sqrt((total[..., 1:] ** 2).sum(-1))
            elif block.kind is Kind.SEMIDEFINITE:
                column, row = np.tril_indices(block.order)
                matrix = np.zeros((*shape[:-1], block.order, block.order))
                numbers = np.where(np.isfinite(total), total, 1.0)
                weight = np.where(row == column, 1.0, np.sqrt(0.5))
                matrix[..., row, column] = matrix[..., column, row] = numbers * weight
                smallest = np.asarray(np.linalg.eigvalsh(matrix)[..., 0], np.float64)
            else:
                smallest = np.abs(total).max(-1)
            result = np.fmin(result, smallest.min(-1))
    return result
