"""What to do with problems on which the iterations fail: are they infeasible, or only too tight?

A problem whose constraints cannot be satisfied, and one that satisfies them in a single point only, look
much the same to an interior-point method: multipliers grow without end. Their elastic forms tell them
apart, and solve the second kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.optimality import largest
from ddn.solution import Status
from ddn.solvers.barrier.elastic import ElasticProgram
from ddn.solvers.barrier.finish import likely_active, solve_active_set
from ddn.solvers.barrier.iterate import Iterate, Sizes
from ddn.solvers.barrier.memory import Limits, Outcome
from ddn.solvers.barrier.program import Program
from ddn.solvers.barrier.run import iterate
from ddn.solvers.barrier.start import Start, first_iterate

__all__ = ["rescue"]

# Multiples of the forces that serve as weights of the violation, in the order in which they are tried.
_PENALTIES = (1e2, 1e5)
# Without an objective, the way to the constraints counts this much more than staying near.
_PROXIMAL = 1e-4


def rescue(program: Program, start: Start, outcome: Outcome, limits: Limits) -> Outcome:
    """Solve the elastic form of the problems that failed; what it tells replaces their outcome."""
    status = outcome.status
    failed = (status == Status.STALLED) | (status == Status.MAX_ITERATIONS)
    failed = failed & outcome.point.y.isfinite().all(-1)
    if not bool(failed.any()) or not _has_elastic_rows(outcome.point):
        return outcome
    for stage in (_PENALTIES[0], 0.0, *_PENALTIES[1:]):
        index = failed.nonzero().squeeze(-1)
        if len(index) == 0:
            break
        attempt = _Attempt(program.select(index), start.select(index), limits)
        if stage:
            found, told, count = attempt.solve(stage)
        else:
            found, told, count = attempt.nearest()
        known = told >= 0
        outcome.point = outcome.point.put(index[known], found.select(known))
        status[index[known]] = told[known]
        failed[index[known]] = False
        outcome.iterations[index] += count
    return outcome


def _has_elastic_rows(point: Iterate) -> bool:
    return point.equality.shape[-1] + point.first.inequality.stated.shape[-2] > 0


@dataclass(frozen=True)
class _Attempt:
    program: Program
    start: Start
    limits: Limits

    def solve(self, penalty: float) -> tuple[Iterate, Tensor, Tensor]:
        """The solution by an exact penalty: a point, its status or −1 if unknown, and iterations."""
        rows = self._row_norms()
        weight = penalty * self._force()
        nothing = torch.zeros_like(weight)
        elastic = ElasticProgram(self.program, 1.0, weight, rows, self.start.point.y, nothing)
        outcome = self._run(elastic, self.start.point.y)
        found = elastic.original(outcome.point)
        hessian = self.program.hessian(found.y, found.equality, found.inequality)
        sizes = Sizes.at(found, hessian, self.start.extent, self.start.floor)
        active = likely_active(found, sizes, self.program.exists)
        polished, solved, _ = solve_active_set(
            self.program,
            found,
            active,
            sizes,
            self.start.extent,
            self.start.floor,
            self.limits.tolerance,
        )
        error = sizes.error(found, self.program.exists, nothing)
        good = (outcome.status == Status.CONVERGED) & (error <= self.limits.acceptable)
        feasible = sizes.infeasibility(found, self.program.exists) <= self.limits.acceptable
        lost = (outcome.status == Status.UNBOUNDED) & feasible
        told = torch.where(lost, int(Status.UNBOUNDED), torch.full_like(outcome.status, -1))
        told = torch.where(solved | good, int(Status.CONVERGED), told)
        return polished.where(solved, found), told, outcome.iterations

    def nearest(self) -> tuple[Iterate, Tensor, Tensor]:
        """The point of smallest violation, which shows infeasible problems."""
        rows = self._row_norms()
        proximal = _PROXIMAL / self.start.extent
        weight = torch.ones_like(proximal)
        elastic = ElasticProgram(self.program, 0.0, weight, rows, self.start.point.y, proximal)
        outcome = self._run(elastic, self.start.point.y)
        found = elastic.original(outcome.point)
        r = rows.shape[-1] - found.equality.shape[-1]
        violation = torch.cat(
            [found.values.equality.abs(), found.values.inequality[:, :r].clamp_min(0)], -1
        )
        length = torch.maximum(largest(found.y), self.start.extent).unsqueeze(-1)
        remains = largest(violation / (rows * length)) > self.limits.acceptable
        infeasible = (outcome.status == Status.CONVERGED) & remains
        told = torch.where(infeasible, int(Status.INFEASIBLE), torch.full_like(outcome.status, -1))
        return found, told, outcome.iterations

    def _run(self, elastic: ElasticProgram, y: Tensor) -> Outcome:
        start = first_iterate(elastic, elastic.start(y), 0.0)
        return iterate(elastic, start, replace(self.limits, barrier=0.0))

    def _force(self) -> Tensor:
        """Size of the multipliers that may be expected, times the norms of their rows."""
        point = self.start.point
        nothing = torch.zeros_like(point.inequality)
        hessian = self.program.hessian(point.y, torch.zeros_like(point.equality), nothing)
        curvature = hessian.abs().sum(-1).amax(-1) * self.start.extent
        force = torch.maximum(largest(point.first.gradient), curvature)
        return torch.where(force > 0, force, 1)

    def _row_norms(self) -> Tensor:
        first = self.start.point.first
        norms = torch.cat(
            [
                first.equality_norms,
                first.inequality.norms,
            ],
            -1,
        )
        values = self.start.point.values
        r = first.inequality.stated.shape[-2]
        size = torch.cat([values.equality.abs(), values.inequality[:, :r].abs()], -1)
        # A row without a gradient at the start has at least a value.
        norms = torch.maximum(norms, 1e-3 * size / self.start.extent.unsqueeze(-1))
        return torch.where(norms > 0, norms, 1)
