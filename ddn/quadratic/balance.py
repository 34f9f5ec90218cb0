"""Units of the variables, where these are very different.

A residual, a slack or a multiplier is small or not beside others. If variables come in units of their own
(metres and millimetres), what is large for one is nothing beside another. So y_j = d_j ŷ_j with

    d_j ∝ 1/√Q_jj,        or, where Q_jj = 0,        d_j ∝ 1/‖column j of A and G‖    (rows of unit length),

in which all variables curve alike; all decisions are made about ŷ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ddn.quadratic.data import QuadraticData, nonzero

__all__ = ["Balanced"]

# Ratio of units below which they are left as they are.
_ALIKE = 30.0


@dataclass(frozen=True)
class Balanced:
    """A batch of quadratic programs in units in which variables are alike.

    Attributes:
        data: of the programs for ŷ.
        units: d, ``(batch, n)`` or shared; None where y is left as it is.
    """

    data: QuadraticData
    units: Tensor | None

    @classmethod
    def of(cls, data: QuadraticData) -> Self:
        """Choose the units."""
        if data.num_variables < 2:
            return cls(data, None)
        diagonal = data.symmetric.diagonal(dim1=-2, dim2=-1)
        low, high = diagonal.aminmax(dim=-1)
        if bool((low * _ALIKE**2 > high).all()):
            return cls(data, None)
        curved = diagonal > 0
        units = torch.where(
            curved, (nonzero(high).unsqueeze(-1) / diagonal.where(curved, 1)).sqrt(), 1
        )
        if not bool(curved.all()) and data.rows.shape[-2]:
            units = _with_flat(units, curved, data.rows / nonzero(data.row_norms).unsqueeze(-1))
        units = torch.where(units.isfinite() & (units > 0), units, 1)
        parts = {
            "Q": data.symmetric * units.unsqueeze(-1) * units.unsqueeze(-2),
            "q": data.q * units,
            "b": data.b,
            "h": data.h,
            "A": None if data.A is None else data.A * units.unsqueeze(-2),
            "G": None if data.G is None else data.G * units.unsqueeze(-2),
            "lower": None if data.lower is None else data.lower / units,
            "upper": None if data.upper is None else data.upper / units,
        }
        return cls(QuadraticData(**{k: v for k, v in parts.items() if v is not None}), units)

    def to_balanced(self, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        """ŷ and its multipliers, from y ``(batch, n)`` and μ ``(batch, p + q)``."""
        if self.units is None:
            return y, multipliers
        return y / self.units, self._bounds(multipliers, self.units)

    def to_original(self, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        """The way back."""
        if self.units is None:
            return y, multipliers
        return y * self.units, self._bounds(multipliers, 1 / self.units)

    def _bounds(self, multipliers: Tensor, factor: Tensor) -> Tensor:
        """Multipliers of rows do not change, those of bounds do."""
        if not self.data.has_bounds:
            return multipliers
        rows = multipliers.shape[-1] - 2 * factor.shape[-1]
        return torch.cat(
            [multipliers[:, :rows], multipliers[:, rows:] * torch.cat([factor, factor], -1)], -1
        )


def _with_flat(units: Tensor, curved: Tensor, rows: Tensor) -> Tensor:
    """Units of variables without curvature: their columns get the size of those of the others."""
    columns = rows.abs().amax(-2)
    other = (columns * torch.where(curved, units, 0)).amax(-1, keepdim=True)
    other = torch.where(other > 0, other, columns.amax(-1, keepdim=True))
    flat = torch.where(columns > 0, other / nonzero(columns), 1)
    return torch.where(curved, units, flat)
