"""The choice of a solver for quadratic programs, from their size and from what is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from ddn.problem import Problem
from ddn.solution import SolverResult, WarmStart
from ddn.solvers.base import WarmStartedSolver
from ddn.solvers.daqp import DAQP
from ddn.solvers.interior_point import InteriorPoint
from ddn.solvers.piqp import PIQP

__all__ = ["AutomaticQuadratic"]


@dataclass(frozen=True)
class AutomaticQuadratic:
    """The default solver of nodes that state the matrices of a quadratic program.

    On CPU, :class:`ddn.solvers.DAQP` for up to ``dense_limit`` variables; for more of them
    :class:`ddn.solvers.PIQP`, whichever are installed (``pip install "ddn-torch[qp]"``); without them, and on
    any other device, :class:`ddn.solvers.InteriorPoint`.

    Attributes:
        dense_limit: largest number of variables for DAQP.
    """

    dense_limit: int = 500

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives."""
        return self.choice(problem, operands).solve(problem, operands, warm_start)

    def choice(self, problem: Problem, operands: Sequence[Tensor]) -> WarmStartedSolver:
        """The solver for a problem."""
        if operands[0].device.type != "cpu":
            return InteriorPoint()
        if problem.num_variables <= self.dense_limit and _installed("daqp"):
            return DAQP()
        return PIQP() if _installed("piqp") else InteriorPoint()


@cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
