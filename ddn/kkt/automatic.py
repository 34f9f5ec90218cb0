"""The choice of a linear solver, from the size and the structure of the problem."""

from __future__ import annotations

from dataclasses import dataclass

from ddn.kkt.block_diagonal import BlockDiagonalFactorization
from ddn.kkt.blocks import diagonal_blocks, has_other_entries
from ddn.kkt.dense import Dense
from ddn.kkt.equilibration import HutchinsonDiagonal
from ddn.kkt.fallback import WithFallback
from ddn.kkt.minres import MINRES
from ddn.kkt.projected_cg import ProjectedCG
from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem

__all__ = ["Automatic"]

# Smaller dense matrices, all problems together, are solved in the time that it takes to look for structure.
_SMALL = 2**16
# A solution with that many rows is verified in the time that it takes to look for other entries of H.
_FEW_ROWS = 2


@dataclass(frozen=True)
class Automatic:
    """Chooses the linear solver for every system; the default of :class:`ddn.ImplicitGradient`.

    With m variables, k constraints that are held (equalities and active inequalities), r rows of
    ``equality`` and ``inequality``, and B problems in the batch:

    1. B (m + k)² ≤ 2¹⁶ numbers: :class:`~ddn.kkt.Dense`, without a look at the structure.
    2. H is block diagonal, and B r m ≤ ``dense_budget``: :class:`~ddn.kkt.BlockDiagonal`, with the
       ``hessian_block_size`` that the node declares as a class attribute, or with 1. Two products with H
       show whether it is so; with one or two rows, or where a dense matrix is out of reach, one product and
       the residual of the solution.
    3. B (m + k)² ≤ ``dense_budget``: :class:`~ddn.kkt.Dense`.
    4. B r m ≤ ``dense_budget``: :class:`~ddn.kkt.ProjectedCG` with :class:`~ddn.kkt.HutchinsonDiagonal`.
    5. Otherwise :class:`~ddn.kkt.MINRES`.

    Problems that blocks cannot solve go to the next that fits; problems that conjugate gradients cannot
    solve go to MINRES, before they are reported. Nothing depends on the machine.

    Attributes:
        dense_budget: how many numbers a dense matrix may have, all problems together; the default,
            2²⁴ (128 MiB in float64; 4096 variables for one problem), needs about ten times that in all.
    """

    dense_budget: int = 2**24

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Choose, and factorize."""
        numbers = self._dense_numbers(system)
        dense, few_rows = numbers <= self.dense_budget, self._has_few_rows(system)
        if numbers <= min(_SMALL, self.dense_budget):
            return Dense().factorize(system)
        rest: KKTSolver = Dense() if dense else _Iterative() if few_rows else MINRES()
        if not few_rows:
            return rest.factorize(system)
        declared = getattr(system.lagrangian.problem.node, "hessian_block_size", None)
        matrix = diagonal_blocks(system, int(declared or 1))
        # Where the rows cost little, or there is no dense matrix to turn to, blocks are worth a try: the
        # residual of the solution tells.
        cheap = not dense or system.num_general_rows <= _FEW_ROWS
        if not cheap and bool(has_other_entries(system, matrix).any()):
            return rest.factorize(system)
        return WithFallback(system, BlockDiagonalFactorization(system, matrix), rest)

    def _dense_numbers(self, system: KKTSystem) -> int:
        """Of the largest dense matrix."""
        m, count = system.num_variables, system.batch_shape.numel()
        held = (system.corner == 0).sum(-1)
        k = int(held.max()) if held.numel() else 0
        return count * max((m + k) ** 2, m * system.num_constraints)

    def _has_few_rows(self, system: KKTSystem) -> bool:
        rows = system.num_general_rows
        numbers = system.batch_shape.numel() * rows * max(system.num_variables, rows)
        return numbers <= self.dense_budget


class _Iterative:
    """Conjugate gradients, and MINRES for the problems that they cannot solve."""

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        first = ProjectedCG(preconditioner=HutchinsonDiagonal()).factorize(system)
        return WithFallback(system, first, MINRES())
