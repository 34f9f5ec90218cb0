"""Quadratic programs by a primal-dual active-set method, all problems of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.problem import Problem
from ddn.quadratic.primal_dual import find_active_set
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.base import Solver
from ddn.solvers.interior_point import InteriorPoint

__all__ = ["PrimalDualActiveSet"]


@dataclass(frozen=True)
class PrimalDualActiveSet:
    """Primal-dual active-set method (Hintermüller, Ito and Kunisch 2003) for strictly convex programs,

        argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b,   G y ≤ h,

    of nodes that state their matrices (``quadratic_program``), on any device. A few factorizations for the
    whole batch find the solution of problems whose active rows are independent on the way; they serve the
    derivative, too. There is no guarantee that a problem is among these: the others, and all those with
    bounds, go to another solver, whose word counts. A warm start begins with the active set of the previous
    solution.

    Attributes:
        max_rounds: changes of the active set, before a problem is left to the other solver.
        fallback: solves what is left.
    """

    max_rounds: int = 12
    fallback: Solver = field(default_factory=InteriorPoint)

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives."""
        if not problem.is_quadratic:
            raise SignatureError(
                f"{type(problem.node).__name__} does not state the matrices of a quadratic program, which "
                "PrimalDualActiveSet needs: define `quadratic_program`, use ddn.nodes.QuadraticProgram, or "
                "another solver."
            )
        balanced = problem.balanced(operands)
        data, batch = balanced.data, problem.batch_shape(operands)
        if data.has_bounds:
            return self.fallback.solve(problem, operands)
        size, p, k = batch.numel(), data.num_equalities, data.num_inequalities
        if warm_start is None or warm_start.multipliers is None:
            active = torch.zeros(size, k, dtype=torch.bool, device=data.q.device)
        else:
            active = warm_start.multipliers.reshape(size, -1)[:, p:] > 0
        found = find_active_set(data, active, self.max_rounds)
        like = operands[0]
        y, multipliers = (t.to(like) for t in balanced.to_original(found.y, found.rows))
        status = torch.where(found.solved, int(Status.CONVERGED), int(Status.MAX_ITERATIONS))
        iterations = found.rounds
        if not bool(found.solved.all()):
            left = (~found.solved).nonzero().squeeze(-1)
            flat = problem.flatten_batch(operands)
            other = self.fallback.solve(problem, problem.select(flat, left))
            assert other.multipliers is not None
            y[left] = other.y.expand(len(left), -1)
            multipliers[left] = other.multipliers.expand(len(left), -1)
            status[left], iterations[left] = other.status, iterations[left] + other.iterations
        return SolverResult(
            y.reshape((*batch, y.shape[-1])),
            multipliers.reshape((*batch, multipliers.shape[-1])),
            status.reshape(batch),
            iterations.reshape(batch),
            found.system if bool(found.solved.all()) else None,
        )
