"""The choice of a linear solver, from the size and the structure of the problem."""

from __future__ import annotations

from dataclasses import dataclass

from ddn.kkt.block_diagonal import BlockDiagonalFactorization
from ddn.kkt.blocks import diagonal_blocks, has_other_entries
from ddn.kkt.dense import Dense
from ddn.kkt.fallback import WithFallback
from ddn.kkt.minres import MINRES
from ddn.kkt.projected_cg import HutchinsonDiagonal, ProjectedCG
from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem

__all__ = ["Automatic"]

# Fewer variables are solved by a dense matrix in less time than it takes to look for structure.
_SMALL = 64


@dataclass(frozen=True)
class Automatic:
    """Chooses the linear solver for every system; the default of :class:`ddn.ImplicitGradient`.

    With m variables, k constraints that are held (equalities and active inequalities), r rows of
    ``equality`` and ``inequality``, and B problems in the batch:

    1. m < 64: :class:`~ddn.kkt.Dense`, if it fits.
    2. H is block diagonal: :class:`~ddn.kkt.BlockDiagonal`, with the ``hessian_block_size`` that the node
       declares as a class attribute, or with 1. Two products with H show whether it is so.
    3. B (m + k)² ≤ ``dense_budget``: :class:`~ddn.kkt.Dense`.
    4. B r m ≤ ``dense_budget``: :class:`~ddn.kkt.ProjectedCG` with :class:`~ddn.kkt.HutchinsonDiagonal`.
    5. Otherwise :class:`~ddn.kkt.MINRES`.

    Problems that blocks cannot solve go to the next that fits; problems that one of the iterative solvers
    cannot solve go to the other one, before they are reported. Nothing depends on the machine.

    Attributes:
        dense_budget: how many numbers a dense matrix may have, all problems together; the default,
            2²⁴ (128 MiB in float64; 4096 variables for one problem), needs about ten times that in all.
    """

    dense_budget: int = 2**24

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Choose, and factorize."""
        dense = self._fits_dense(system)
        if dense and system.num_variables < _SMALL:
            return Dense().factorize(system)
        rest: KKTSolver = Dense() if dense else Iterative(self._fits_rows(system))
        if not self._fits_rows(system):
            return rest.factorize(system)
        declared = getattr(system.lagrangian.problem.node, "hessian_block_size", None)
        matrix = diagonal_blocks(system, int(declared or 1))
        # Without a dense matrix to turn to, blocks are worth a try: the residual of the solution tells.
        if dense and bool(has_other_entries(system, matrix).any()):
            return rest.factorize(system)
        return WithFallback(system, BlockDiagonalFactorization(system, matrix), rest)

    def _fits_dense(self, system: KKTSystem) -> bool:
        m, count = system.num_variables, system.batch_shape.numel()
        held = (system.corner == 0).sum(-1)
        k = int(held.max()) if held.numel() else 0
        return count * max((m + k) ** 2, m * system.num_constraints) <= self.dense_budget

    def _fits_rows(self, system: KKTSystem) -> bool:
        numbers = system.num_general_rows * max(system.num_variables, system.num_general_rows)
        return system.batch_shape.numel() * numbers <= self.dense_budget


@dataclass(frozen=True)
class Iterative:
    """Conjugate gradients or MINRES, and the other one for problems that the first cannot solve.

    Attributes:
        few_rows: start with conjugate gradients, which need J as a matrix; else only MINRES.
    """

    few_rows: bool

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Prepare the first; the second when it is needed."""
        if not self.few_rows:
            return MINRES().factorize(system)
        first = ProjectedCG(preconditioner=HutchinsonDiagonal()).factorize(system)
        return WithFallback(system, first, MINRES())
