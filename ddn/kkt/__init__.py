"""The KKT system and its linear solvers, for ``ddn.ImplicitGradient(linear_solver=...)``."""

from ddn.kkt.dense import Dense
from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem

__all__ = ["Dense", "KKTFactorization", "KKTSolver", "KKTSystem"]
