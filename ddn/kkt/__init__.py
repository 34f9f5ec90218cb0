"""The KKT system and its linear solvers, for ``ddn.ImplicitGradient(linear_solver=...)``."""

from ddn.kkt.automatic import Automatic
from ddn.kkt.block_diagonal import BlockDiagonal
from ddn.kkt.dense import Dense
from ddn.kkt.equilibration import HutchinsonDiagonal
from ddn.kkt.minres import MINRES
from ddn.kkt.projected_cg import ProjectedCG
from ddn.kkt.schur import SchurComplement
from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem

__all__ = [
    "MINRES",
    "Automatic",
    "BlockDiagonal",
    "Dense",
    "HutchinsonDiagonal",
    "KKTFactorization",
    "KKTSolver",
    "KKTSystem",
    "ProjectedCG",
    "SchurComplement",
]
