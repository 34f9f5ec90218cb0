"""CVXPY problems as differentiable layers, through the cone programs that CVXPY makes of them."""

from ddn.conic.any_solver import AnySolver
from ddn.conic.node import ConvexSolution, CvxpyNode
from ddn.conic.solve import Clarabel, ConeSolution, ConeSolver

__all__ = ["AnySolver", "Clarabel", "ConeSolution", "ConeSolver", "ConvexSolution", "CvxpyNode"]
