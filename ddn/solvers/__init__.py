"""Solvers: objects that find the solution of a batch of problems. Options are visible fields."""

from ddn.solvers.automatic import AutomaticQuadratic
from ddn.solvers.base import NodeSolve, Solver
from ddn.solvers.daqp import DAQP
from ddn.solvers.interior_point import InteriorPoint
from ddn.solvers.lbfgs import LBFGS
from ddn.solvers.levenberg_marquardt import GaussNewton, LevenbergMarquardt
from ddn.solvers.newton import Newton
from ddn.solvers.piqp import PIQP
from ddn.solvers.primal_dual_active_set import PrimalDualActiveSet
from ddn.solvers.pymanopt import Pymanopt
from ddn.solvers.scipy import ScipyMinimize

__all__ = [
    "DAQP",
    "LBFGS",
    "PIQP",
    "AutomaticQuadratic",
    "GaussNewton",
    "InteriorPoint",
    "LevenbergMarquardt",
    "Newton",
    "NodeSolve",
    "PrimalDualActiveSet",
    "Pymanopt",
    "ScipyMinimize",
    "Solver",
]
