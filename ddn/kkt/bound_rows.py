"""The rows of bounds, without a matrix.

A row of a bound has one entry, ∓1. If it is active, it fixes its variable: −u_i = r for a lower bound,
u_i = r for an upper one. On the central path its row −u_i − C s = r is eliminated, which adds C⁻¹ to the
diagonal of H. If it is inactive, s = −r. So 2m rows cost O(m).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.system import KKTSystem

__all__ = ["BoundRows"]


@dataclass(frozen=True)
class BoundRows:
    """The last 2m rows of a KKT system: lower bounds, then upper bounds.

    Attributes:
        lower: variables that an active lower bound fixes, ``(*batch, m)``.
        upper: variables that an active upper bound fixes.
        lower_weight: C⁻¹ of lower bounds that are eliminated, 0 elsewhere, ``(*batch, m)``.
        upper_weight: likewise.
        corner: diagonal of C, 1 in place of 0, ``(*batch, 2m)``.
    """

    lower: Tensor
    upper: Tensor
    lower_weight: Tensor
    upper_weight: Tensor
    corner: Tensor

    @classmethod
    def of(cls, system: KKTSystem) -> BoundRows | None:
        """None where the problem has no bounds."""
        if not system.num_bound_rows:
            return None
        m = system.num_variables
        lower, upper = system.lagrangian.problem.bounds(system.operands)
        shape = (*system.batch_shape, m)
        exists = torch.cat(
            [(lower != -torch.inf).expand(shape), (upper != torch.inf).expand(shape)], -1
        )
        exists = exists & (system.row_weight[..., -2 * m :] > 0)
        corner = system.corner[..., -2 * m :]
        fixed = exists & (corner == 0)
        corner = torch.where(corner == 0, 1, corner)
        weight = torch.where(exists & ~fixed, 1 / corner, 0)
        lower, upper = fixed.chunk(2, -1)
        lower_weight, upper_weight = weight.chunk(2, -1)
        return cls(lower, upper, lower_weight, upper_weight, corner)

    @property
    def fixed(self) -> Tensor:
        """Variables that do not move freely, ``(*batch, m)``."""
        return self.lower | self.upper

    @property
    def weight(self) -> Tensor:
        """What elimination adds to the diagonal of H, ``(*batch, m)``."""
        return self.lower_weight + self.upper_weight

    def reduce(self, right_y: Tensor, right_bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Right side after elimination, the values of fixed variables, and where they contradict.

        Args:
            right_y: ``(*extra, *batch, m)``.
            right_bounds: ``(*extra, *batch, 2m)``.

        Returns:
            ``(*extra, *batch, m)`` twice, zeros among the values where a variable is free, and a mask
            ``(*extra, *batch)``: both bounds of a variable are active and ask for different values.
        """
        low, high = right_bounds.chunk(2, -1)
        right_y = right_y - self.lower_weight * low + self.upper_weight * high
        both = self.lower & self.upper
        value = torch.where(self.lower, -low, torch.where(self.upper, high, 0))
        value = torch.where(both, (high - low) / 2, value)
        size = torch.maximum(low.abs(), high.abs())
        limit = torch.finfo(size.dtype).eps ** 0.5
        contradiction = both & ((high + low).abs() > limit * size)
        return right_y, value, contradiction.any(-1)

    def multipliers(self, u: Tensor, remainder: Tensor, right_bounds: Tensor) -> Tensor:
        """s of all bound rows, ``(*extra, *batch, 2m)``.

        Args:
            u: the solution.
            remainder: what the bounds contribute to the rows of y, ``s_upper − s_lower``, where fixed.
            right_bounds: ``(*extra, *batch, 2m)``.
        """
        # Two active bounds of one variable share the load: the solution of minimum norm.
        share = torch.where(self.lower & self.upper, remainder / 2, remainder)
        low, high = right_bounds.chunk(2, -1)
        low_corner, high_corner = self.corner.chunk(2, -1)
        moved_low = torch.where(self.lower_weight > 0, -u, 0)
        moved_high = torch.where(self.upper_weight > 0, u, 0)
        return torch.cat(
            [
                torch.where(self.lower, -share, (moved_low - low) / low_corner),
                torch.where(self.upper, share, (moved_high - high) / high_corner),
            ],
            -1,
        )
