"""The KKT system with block-diagonal matrix in place of the Hessian, by elimination,

    [[D, Jᵀ], [J, −C]] (u, s) = (r_y, r_J):     (C + J D⁻¹ Jᵀ) s = J D⁻¹ r_y − r_J,    u = D⁻¹ (r_y − Jᵀ s).

If D is the Hessian, that is its solution; else a *constraint preconditioner*, whose solutions satisfy the
constraints exactly (Keller, Gould and Wathen 2000).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.kkt.blocks import BlockInverse
from ddn.kkt.dense import solve_columns
from ddn.kkt.linearized import apply_matrix
from ddn.linear_solve import SymmetricSystem

__all__ = ["ConstraintPreconditioner"]


class ConstraintPreconditioner:
    """Time O(m b² + r² m + r³) for r rows, memory O(m (b + r)).

    Args:
        inverse: D⁻¹, zero for fixed variables.
        rows: J, ``(*batch, r, m)``.
        corner: diagonal of C, ``(*batch, r)``.
    """

    def __init__(self, inverse: BlockInverse, rows: Tensor, corner: Tensor) -> None:
        self._inverse = inverse
        self._rows = rows
        self._schur: SymmetricSystem | None = None
        self._reciprocal: Tensor | None = None
        if rows.shape[-2] == 0:
            return
        self._scaled = inverse.solve(rows.movedim(-2, 0)).movedim(0, -2)
        schur = rows @ self._scaled.mT
        if rows.shape[-2] == 1:
            schur = schur.squeeze(-1) + corner
            self._reciprocal = torch.where(schur == 0, 0, 1 / schur)
            return
        schur = (schur + schur.mT) / 2 + torch.diag_embed(corner)
        size = schur.diagonal(dim1=-2, dim2=-1).abs().sqrt()
        self._scale = torch.where(size > 0, 1 / torch.where(size > 0, size, 1), 1)
        self._schur = SymmetricSystem(schur * self._scale.unsqueeze(-1) * self._scale.unsqueeze(-2))

    def solve(self, right_y: Tensor, right_rows: Tensor) -> tuple[Tensor, Tensor]:
        """(u, s) for ``(*extra, *batch, m)`` and ``(*extra, *batch, r)``."""
        u = self._inverse.solve(right_y)
        if self._reciprocal is not None:
            s = self._reciprocal * ((self._rows.squeeze(-2) * u).sum(-1, keepdim=True) - right_rows)
            return u.addcmul_(self._scaled.squeeze(-2), s, value=-1), s
        if self._schur is None:
            return u, right_rows
        reduced = self._scale * (apply_matrix(self._rows, u) - right_rows)
        # Where rows contradict each other there is no solution; the residual will tell.
        s, _ = solve_columns(self._schur, reduced)
        s = self._scale * s
        return u.sub_(apply_matrix(self._scaled.mT, s)), s
