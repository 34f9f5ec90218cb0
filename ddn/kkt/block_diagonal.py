"""KKT systems of separable problems: the Hessian is diagonal, or block diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.failure import format_indices
from ddn.kkt.blocks import BlockInverse, BlockMatrix, diagonal_blocks, has_other_entries
from ddn.kkt.constraint_preconditioner import ConstraintPreconditioner
from ddn.kkt.dense import Dense
from ddn.kkt.fallback import WithFallback
from ddn.kkt.free_system import FreeSystem
from ddn.kkt.system import KKTFactorization, KKTSystem

__all__ = ["BlockDiagonal", "BlockDiagonalFactorization"]

# Up to this many variables, what cannot be solved by blocks is solved by a dense matrix.
_MAX_DENSE = 2000


@dataclass(frozen=True)
class BlockDiagonal:
    """For a Hessian of L that is block diagonal: a sum over groups of variables, with few rows that couple.

    H is read off ``block_size`` products; one more, with a generic vector, verifies that it has no other
    entries. Time O(m b² + r² m + r³) and memory O(m (b + r)) for b = ``block_size`` and r rows of
    ``equality`` and ``inequality``; bounds cost O(m). Problems whose blocks are singular go through
    :class:`~ddn.kkt.Dense` if corrections do not help and they have at most 2000 variables.

    Attributes:
        block_size: b, the number of consecutive variables in a group; 1 for a separable objective. The last
            group may be smaller.
    """

    block_size: int = 1

    def __post_init__(self) -> None:
        if not self.block_size >= 1:
            raise ValueError(f"block_size is an integer ≥ 1, but was given {self.block_size!r}.")

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Obtain, verify and factorize the blocks.

        Raises:
            SignatureError: H has entries outside of the blocks.
        """
        matrix = diagonal_blocks(system, self.block_size)
        outside = has_other_entries(system, matrix)
        if bool(outside.any()):
            raise SignatureError(
                f"{system.name}: the Hessian of the Lagrangian is not block diagonal with "
                f"block_size={self.block_size} for {format_indices(outside)}: variables of different groups "
                "are coupled. Use another block_size (all blocks of the solution are one vector, in the "
                "order of the signature), or leave linear_solver out to have one chosen."
            )
        factorization = BlockDiagonalFactorization(system, matrix)
        if system.num_variables > _MAX_DENSE:
            return factorization
        return WithFallback(system, factorization, Dense())


class BlockDiagonalFactorization:
    """Elimination with the blocks of the Hessian.

    Args:
        system: the KKT system.
        matrix: its H.
    """

    failure = (
        "The Hessian has singular blocks there that the constraints do not make up for, or constraints "
        "contradict each other in the direction asked for: the solution is not unique, or its constraints "
        "are degenerate. Make the objective strictly convex in the free variables (a small proximal "
        "term), or use on_failure='nan' to get NaN in exactly these problems."
    )

    def __init__(self, system: KKTSystem, matrix: BlockMatrix) -> None:
        self._free = FreeSystem(system, system.general_jacobian())
        weight = self._free.weight
        if weight is not None:
            matrix = matrix.add_diagonal(weight)
        assert self._free.rows is not None
        self._elimination = ConstraintPreconditioner(
            BlockInverse(matrix, self._free.fixed), self._free.rows, self._free.corner
        )

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ddn.kkt.system.KKTFactorization`."""
        target = torch.finfo(right_y.dtype).eps ** 0.75
        return self._free.solve(
            right_y,
            right_multipliers,
            lambda residual_y, residual_rows, pending: self._elimination.solve(
                residual_y, residual_rows
            ),
            target,
            10 * target,
        )
