"""Solvers: objects that find the solution of a batch of problems. Options are visible fields."""

from ddn.solvers.automatic import AutomaticQuadratic
from ddn.solvers.base import NodeSolve, Solver
from ddn.solvers.daqp import DAQP
from ddn.solvers.interior_point import InteriorPoint
from ddn.solvers.newton import Newton
from ddn.solvers.piqp import PIQP
from ddn.solvers.pymanopt import Pymanopt

__all__ = [
    "DAQP",
    "PIQP",
    "AutomaticQuadratic",
    "InteriorPoint",
    "Newton",
    "NodeSolve",
    "Pymanopt",
    "Solver",
]
