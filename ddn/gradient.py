"""Gradients: how the derivative of a solution is computed, an object apart from problem and solver."""

from __future__ import annotations

from dataclasses import dataclass, field

from ddn.kkt import DenseKKT, KKTSolver

__all__ = ["ImplicitGradient"]


@dataclass(frozen=True)
class ImplicitGradient:
    """The exact derivative, from the optimality conditions at the solution (:mod:`ddn.implicit`).

    Attributes:
        linear_solver: solves the KKT system.
    """

    linear_solver: KKTSolver = field(default_factory=DenseKKT)
