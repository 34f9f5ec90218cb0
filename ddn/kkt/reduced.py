"""The dense KKT system without the rows that can be eliminated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ddn.kkt.system import KKTSystem

__all__ = ["ReducedSystem"]


@dataclass(frozen=True)
class ReducedSystem:
    """The rows with C > 0 eliminated, the others gathered:

        [[H + J₁ᵀ C₁⁻¹ J₁, A ᵀ], [A, 0]],        s₁ = C₁⁻¹ (J₁ u − r₁).

    Problems of a batch may keep different numbers of rows: shorter ones are filled up with rows of
    zeros, which :attr:`padding` marks.

    Attributes:
        hessian: H + J₁ᵀ C₁⁻¹ J₁, ``(*batch, m, m)``.
        jacobian: A, the rows that stay, ``(*batch, k, m)``.
        rows: their positions among all rows, ``(*batch, k)``.
        padding: true where a row is only there to fill up, ``(*batch, k)``.
        full_jacobian: J, ``(*batch, p + q, m)``.
        corner: diagonal of C, ``(*batch, p + q)``.
        is_whole: no problem has a row that is eliminated.
    """

    hessian: Tensor
    jacobian: Tensor
    rows: Tensor
    padding: Tensor
    full_jacobian: Tensor
    corner: Tensor
    is_whole: bool = False

    @classmethod
    def of(cls, hessian: Tensor, jacobian: Tensor, corner: Tensor) -> ReducedSystem:
        """Eliminate and gather."""
        eliminated = corner > 0
        if not bool(eliminated.any()):
            rows = torch.arange(corner.shape[-1], device=corner.device).expand(corner.shape)
            return cls(hessian, jacobian, rows, eliminated, jacobian, corner, is_whole=True)
        weight = torch.where(eliminated, 1 / torch.where(eliminated, corner, 1), 0)
        hessian = hessian + jacobian.mT @ (weight.unsqueeze(-1) * jacobian)
        k = int((~eliminated).sum(-1).max())
        # A stable sort puts the rows that stay first and keeps their order.
        rows = eliminated.to(torch.int8).sort(dim=-1, stable=True).indices[..., :k]
        padding = eliminated.gather(-1, rows)
        kept = jacobian.gather(-2, rows.unsqueeze(-1).expand(*rows.shape, jacobian.shape[-1]))
        kept = torch.where(padding.unsqueeze(-1), 0, kept)
        return cls(hessian, kept, rows, padding, jacobian, corner)

    def select(self, index: Tensor) -> ReducedSystem:
        """The problems ``index`` of the flattened batch, in one batch dimension."""
        ranks = len(self.hessian.shape[:-2])
        parts = {
            name: getattr(self, name).flatten(0, ranks - 1)[index]
            if ranks
            else getattr(self, name).unsqueeze(0)[index]
            for name in ("hessian", "jacobian", "rows", "padding", "full_jacobian", "corner")
        }
        return ReducedSystem(**parts, is_whole=self.is_whole)

    def significant(self, system: KKTSystem) -> ReducedSystem:
        """The same without rounding errors in H; see :meth:`KKTSystem.significant`."""
        return replace(self, hessian=system.significant(self.hessian))

    def reduce_right_side(
        self, right_y: Tensor, right_multipliers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Right side of the reduced system, ``(*extra, *batch, m)`` and ``(*extra, *batch, k)``."""
        if self.is_whole:
            return right_y, right_multipliers
        eliminated = self.corner > 0
        known = torch.where(
            eliminated, right_multipliers / torch.where(eliminated, self.corner, 1), 0
        )
        right_y = right_y + (known.unsqueeze(-2) @ self.full_jacobian).squeeze(-2)
        rows = self.rows.expand(*right_multipliers.shape[:-1], self.rows.shape[-1])
        return right_y, torch.where(self.padding, 0, right_multipliers.gather(-1, rows))

    def expand_solution(self, u: Tensor, kept: Tensor, right_multipliers: Tensor) -> Tensor:
        """s ``(*extra, *batch, p + q)`` from u and the multipliers of the rows that stay."""
        if self.is_whole:
            return kept
        eliminated = self.corner > 0
        change = (self.full_jacobian @ u.unsqueeze(-1)).squeeze(-1) - right_multipliers
        s = change / torch.where(eliminated, self.corner, 1)
        rows = self.rows.expand(*kept.shape)
        current = s.gather(-1, rows)
        return s.scatter(-1, rows, torch.where(self.padding, current, kept))
