"""Deep declarative nodes for PyTorch: layers whose output is the solution of an optimization problem."""

from ddn import matrix_calculus, nodes, solvers, testing
from ddn.constraints import symmetric
from ddn.gradient import ImplicitGradient
from ddn.node import DeclarativeNode
from ddn.solution import Solution, Status

__all__ = [
    "DeclarativeNode",
    "ImplicitGradient",
    "Solution",
    "Status",
    "matrix_calculus",
    "nodes",
    "solvers",
    "symmetric",
    "testing",
]

__version__ = "0.1.0"
