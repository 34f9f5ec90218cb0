"""Deep declarative nodes for PyTorch: layers whose output is the solution of an optimization problem."""

from ddn import conic, kkt, matrix_calculus, nodes, solvers, testing
from ddn.certificate import Certificate
from ddn.conic import CvxpyNode
from ddn.constraints import symmetric
from ddn.gradient import ImplicitGradient, UnconstrainedGradient
from ddn.node import DeclarativeNode
from ddn.quadratic import QuadraticData
from ddn.riemannian import RiemannianGradient
from ddn.solution import Solution, Status
from ddn.unrolled import OneStepGradient, UnrolledGradient

__all__ = [
    "Certificate",
    "CvxpyNode",
    "DeclarativeNode",
    "ImplicitGradient",
    "OneStepGradient",
    "QuadraticData",
    "RiemannianGradient",
    "Solution",
    "Status",
    "UnconstrainedGradient",
    "UnrolledGradient",
    "conic",
    "kkt",
    "matrix_calculus",
    "nodes",
    "solvers",
    "symmetric",
    "testing",
]

__version__ = "0.1.0"
