"""Ready-made nodes: each is a class and a function."""

from ddn.nodes.entropy import EntropicSimplexProjection, project_simplex_entropic
from ddn.nodes.least_squares import LeastSquares, solve_least_squares
from ddn.nodes.linear_program import (
    EntropicSmoothing,
    LinearProgram,
    QuadraticSmoothing,
    solve_linear_program,
)
from ddn.nodes.linear_system import LinearSystem, solve_linear_system
from ddn.nodes.procrustes import OrthogonalProcrustes, orthogonal_procrustes
from ddn.nodes.quadratic_program import QuadraticProgram, solve_quadratic_program
from ddn.nodes.sphere import SphereProjection, project_sphere

__all__ = [
    "EntropicSimplexProjection",
    "EntropicSmoothing",
    "LeastSquares",
    "LinearProgram",
    "LinearSystem",
    "OrthogonalProcrustes",
    "QuadraticProgram",
    "QuadraticSmoothing",
    "SphereProjection",
    "orthogonal_procrustes",
    "project_simplex_entropic",
    "project_sphere",
    "solve_least_squares",
    "solve_linear_program",
    "solve_linear_system",
    "solve_quadratic_program",
]
