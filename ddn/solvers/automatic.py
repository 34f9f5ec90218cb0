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
from ddn.solvers.primal_dual_active_set import PrimalDualActiveSet

__all__ = ["AutomaticQuadratic"]


@dataclass(frozen=True)
class AutomaticQuadratic:
    """The default solver of nodes that state the matrices of a quadratic program.

    Without bounds, and with matrices that are not too large, :class:`ddn.solvers.PrimalDualActiveSet`. What
    that does not solve, and everything else, goes on CPU to :class:`ddn.solvers.DAQP`, for more than
    ``dense_limit`` variables to :class:`ddn.solvers.PIQP`, whichever are installed
    (``pip install "ddn-torch[qp]"``); without them, and on any other device, to
    :class:`ddn.solvers.InteriorPoint`.

    Attributes:
        dense_limit: largest number of variables for DAQP.
        dense_budget: how many numbers the matrices of the first method may have, all problems together.
    """

    dense_limit: int = 500
    dense_budget: int = 2**24

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives."""
        return self.choice(problem, operands).solve(problem, operands, warm_start)

    def choice(self, problem: Problem, operands: Sequence[Tensor]) -> WarmStartedSolver:
        """The solver for a problem."""
        rest = self._rest(problem, operands)
        data = problem.matrices(operands)
        n, rows = data.num_variables, data.rows.shape[-2]
        numbers = problem.batch_shape(operands).numel() * max(n, rows) ** 2
        if data.has_bounds or not rows or numbers > self.dense_budget:
            return rest
        return PrimalDualActiveSet(fallback=rest)

    def _rest(self, problem: Problem, operands: Sequence[Tensor]) -> WarmStartedSolver:
        if operands[0].device.type != "cpu":
            return InteriorPoint()
        if problem.num_variables <= self.dense_limit and _installed("daqp"):
            return DAQP()
        return PIQP() if _installed("piqp") else InteriorPoint()


@cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
