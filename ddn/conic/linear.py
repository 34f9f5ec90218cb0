"""Symmetric quasi-definite systems, also singular ones.

    [ P   Bᵀ ]
    [ B  −Δ  ]    with P ⪰ 0, Δ ⪰ 0

is regular, and can be eliminated in any order, if a little is added to P and to Δ, whatever its rank
(Vanderbei 1995). Iterative refinement takes the perturbation out again: it converges to a solution of the
system as it stands if there is one (a proximal-point iteration), and its residual tells if there is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from ddn.conic.pattern import Pattern

__all__ = ["QuasiDefinite", "equilibrate"]

Array = NDArray[np.float64]

_REGULARIZATION = 1e-11
_REFINEMENTS = 10
_ROUNDING = 1e-15
# Residual of a solution, relative to the right side.
_CONSISTENT = 1e-9
# Solutions so much larger than the right side, both in the units in which the matrix is of order one,
# are what rounding and the accuracy of the solver make of a singular matrix.
_LARGEST_GROWTH = 1e8


class QuasiDefinite:
    """One factorized matrix.

    Args:
        pattern: of the matrix.
        entries: of the equilibrated matrix.
        scale: what :func:`equilibrate` has divided out.
    """

    def __init__(self, pattern: Pattern, entries: Array, scale: Array) -> None:
        self.scale = scale[:, None]
        self.perturbation = _REGULARIZATION * pattern.signs[:, None]
        perturbed = entries.copy()
        perturbed[pattern.on_diagonal] += self.perturbation[:, 0]
        self.matrix = pattern.matrix(perturbed)
        try:
            self.factors = splu(
                self.matrix,
                permc_spec="NATURAL",
                diag_pivot_thresh=1e-3,
                options={"SymmetricMode": True},
            )
        except RuntimeError:  # exactly singular, even so
            self.factors = None

    def solve(self, right: Array) -> tuple[Array, bool]:
        """A solution of ``matrix @ x = right``, and whether there is none because the matrix is singular.

        Args:
            right: ``(size, columns)``, of the matrix as it was before it was equilibrated.
        """
        if self.factors is None:
            return np.full_like(right, np.nan), True
        if not np.isfinite(right).all():  # of the loss: none of this system's business
            return np.full_like(right, np.nan), False
        right = self.scale * right
        size = np.abs(right).max(0, initial=0.0)
        solution, residual, error = np.zeros_like(right), right, np.inf
        for _ in range(_REFINEMENTS):
            candidate = solution + self.factors.solve(residual)
            residual = right - (self.matrix @ candidate - self.perturbation * candidate)
            previous, error = error, _relative(residual, size)
            if not error < previous:
                error = previous
                break
            solution = candidate
            if error < _ROUNDING or error > previous / 2:
                break
        growth = np.abs(solution).max(0, initial=0.0)
        singular = not error <= _CONSISTENT or bool((growth > _LARGEST_GROWTH * size).any())
        return self.scale * solution, singular


def equilibrate(pattern: Pattern, entries: Array) -> tuple[Array, Array]:
    """Scale rows and columns alike until the largest entry of each is about one (Ruiz 2001).

    Args:
        pattern: of the matrices.
        entries: ``(batch, entries)``.

    Returns:
        The scaled entries, and the scales ``(batch, size)``.
    """
    scale = np.ones((len(entries), pattern.size))
    for _ in range(_SWEEPS):
        largest = np.maximum.reduceat(np.abs(entries), pattern.pointers[:-1], axis=1)
        step = 1 / np.sqrt(np.where(largest > 0, largest, 1.0))
        entries = entries * step[:, pattern.rows] * step[:, pattern.columns]
        scale *= step
    return entries, scale


_SWEEPS = 2


def _relative(residual: Array, size: Array) -> float:
    ratio = np.abs(residual).max(0, initial=0.0) / np.where(size > 0, size, 1.0)
    return float(ratio.max(initial=0.0))
