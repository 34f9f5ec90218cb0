"""The iterations of the interior-point method, for a batch of independent problems.

Problems that are done leave the batch. In *free* mode the barrier parameter follows from a predictor step,
and a predictor-corrector step is taken if it reduces the optimality error (Mehrotra 1992); where it does
not, the parameter is held and steps must reduce a merit function until the error has gone down
(Nocedal, Wächter and Waltz 2009).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ddn.optimality import largest
from ddn.solution import Status
from ddn.solvers.barrier.finish import active_rows, solve_active_set
from ddn.solvers.barrier.iterate import Direction, Iterate, Sizes, StepSystem
from ddn.solvers.barrier.memory import Limits, Memory, Outcome
from ddn.solvers.barrier.program import Program
from ddn.solvers.barrier.ray import runs_away
from ddn.solvers.barrier.search import advance, line_search
from ddn.solvers.barrier.start import Start

__all__ = ["iterate"]

# A free step reduces the smallest error so far to at most this fraction.
_DECREASE = 0.9
# Free steps in a row that need not, as long as the error stays below this multiple of it: some only
# bring the point back to the middle.
_DETOURS, _DETOUR, _NONLINEAR = 4, 2.0, 0.1
# Fraction of the way to the boundary (Nocedal and Wright 2006, eq. 19.9); more where the error is small.
_FRACTION = 0.99
# Fraction of the first length and force that a length and a force count as, at least.
_FLOOR = 1e-3
# The barrier problem counts as solved at this multiple of κ (Wächter and Biegler 2006, eq. 7).
_INNER = 10.0
# The active set is tried when the error has fallen to ε^(1/5), and again after it fell to this fraction.
_RETRY = 0.03
# Iterations without progress after which a point that is good enough is taken.
_PATIENCE = 3
# Without progress for some iterations, and with multipliers out of proportion, constraints are infeasible or
# too tight for an interior point. Without progress for many, nothing is to be expected any more.
_STRAIN, _STUCK, _GIVE_UP = 1e6, 5, 50


def iterate(program: Program, start: Start, limits: Limits) -> Outcome:
    """Run until every problem is solved or known to fail."""
    run = _Run(program, start, limits)
    for _ in range(limits.max_iterations):
        if len(run.memory.position) == 0:
            break
        run.step()
    run.stop()
    return run.outcome


class _Run:
    def __init__(self, program: Program, start: Start, limits: Limits) -> None:
        self.limits = limits
        status = torch.full_like(start.extent, int(Status.MAX_ITERATIONS), dtype=torch.int64)
        status = torch.where(start.finite, status, int(Status.NOT_FINITE))
        self.outcome = Outcome(start.point, status, torch.zeros_like(status))
        self.program, self.point = program, start.point
        infinite = torch.full_like(start.extent, torch.inf)
        self.memory = Memory(
            torch.arange(len(status), device=status.device),
            start.extent,
            start.floor,
            infinite,
            infinite,
            torch.zeros_like(status),
            ~infinite.isfinite() & False,
            infinite,
            infinite,
            infinite,
            torch.zeros_like(status),
        )
        self._keep(start.finite)

    # -- bookkeeping ------------------------------------------------------------------------------

    def _keep(self, mask: Tensor) -> Tensor | None:
        """Drop all other problems; the positions of those that stay, or None if all do."""
        if bool(mask.all()):
            return None
        index = mask.nonzero().squeeze(-1)
        self.memory = self.memory.select(index)
        # Functions of a node may not work for no problem at all.
        if len(index):
            self.program, self.point = self.program.select(index), self.point.select(index)
        return index

    def _record(self, mask: Tensor, point: Iterate) -> None:
        """Keep the point as the result."""
        if bool(mask.any()):
            index = mask.nonzero().squeeze(-1)
            position = self.memory.position[index]
            self.outcome.point = self.outcome.point.put(position, point.select(index))

    def _end(self, mask: Tensor, status: Status) -> None:
        self.outcome.status[self.memory.position[mask]] = int(status)

    def stop(self) -> None:
        """Results of the problems that are still running."""
        if len(self.memory.position) == 0:
            return
        will_do = self.memory.recorded.isfinite()
        self._end(will_do, Status.CONVERGED)
        self._record(~will_do, self.point)

    # -- one iteration ----------------------------------------------------------------------------

    def step(self) -> None:
        """Test the point, and take a step to the next."""
        hessian = self._hessian()
        sizes = Sizes.at(self.point, hessian, self.memory.extent, self.memory.floor)
        error = self._error(self.point, self._relaxed(sizes))
        system = StepSystem(self.point, hessian, self.program.exists)
        predictor = system.direction(self._zero() + self.limits.barrier)
        for test in (self._finish, self._test):
            left = test(system, hessian, sizes, error, predictor)
            if left is not None:
                hessian, sizes, error = hessian[left], sizes.select(left), error[left]
                system, predictor = system.select(left), predictor.select(left)
            if len(error) == 0:
                return
        self.outcome.iterations[self.memory.position] += 1
        self._advance(system, hessian, sizes, error, predictor)

    def _hessian(self) -> Tensor:
        return self.program.hessian(self.point.y, self.point.equality, self.point.inequality)

    def _zero(self) -> Tensor:
        return torch.zeros_like(self.memory.extent)

    def _error(self, point: Iterate, sizes: Sizes) -> Tensor:
        """Largest relative residual of the conditions that the result is to satisfy."""
        exists, barrier = self.program.exists, self.limits.barrier
        error = sizes.error(point, exists, self._zero() + barrier)
        if not barrier:
            return error
        product = torch.where(exists, point.inequality * point.slack / barrier - 1, 0)
        return torch.maximum(error, largest(product))

    def _relaxed(self, sizes: Sizes) -> Sizes:
        """Sizes for decisions: a solution where everything vanishes must look like one from afar."""
        memory = self.memory
        scale = _FLOOR / torch.finfo(memory.floor.dtype).eps ** 0.5
        return sizes.at_least(_FLOOR * memory.extent, scale * memory.floor)

    def _finish(
        self,
        system: StepSystem,
        hessian: Tensor,
        sizes: Sizes,
        error: Tensor,
        predictor: Direction,
    ) -> Tensor | None:
        """Try the active set of points that are near enough; drop what is solved or not finite."""
        finite = error.isfinite()
        self._end(~finite, Status.NOT_FINITE)
        memory, left = self.memory, finite
        first = torch.finfo(error.dtype).eps ** 0.2
        trying = finite & (error <= first) & (error <= _RETRY * memory.tried)
        if not self.limits.barrier and bool(trying.any()):
            index = trying.nonzero().squeeze(-1)
            program, point = self.program.select(index), self.point.select(index)
            polished, found, steps = solve_active_set(
                program,
                point,
                active_rows(point, predictor.select(index), program.exists),
                self._relaxed(sizes).select(index),
                memory.extent[index],
                memory.floor[index],
                self.limits.tolerance,
            )
            self.outcome.iterations[memory.position[index]] += steps
            solved = torch.zeros_like(trying)
            solved[index[found]] = True
            self._record(solved, self.point.put(index, polished))
            self._end(solved, Status.CONVERGED)
            self.memory = replace(memory, tried=torch.where(trying, error, memory.tried))
            left = left & ~solved
        return self._keep(left)

    def _test(
        self,
        system: StepSystem,
        hessian: Tensor,
        sizes: Sizes,
        error: Tensor,
        predictor: Direction,
    ) -> Tensor | None:
        """Keep points that will do as results; drop problems that are done."""
        memory, eps = self.memory, torch.finfo(error.dtype).eps
        near = largest(predictor.y) <= eps ** (3 / 8) * sizes.length
        exact = self._error(self.point, sizes)
        will_do = system.convex & near & (exact <= self.limits.acceptable)
        better = will_do & (exact < memory.recorded)
        self._record(better, self.point)
        recorded = torch.where(better, exact, memory.recorded)
        smaller = error < 0.5 * memory.smallest
        idle = torch.where(smaller, 0, memory.idle + 1)
        smallest = torch.where(smaller, error, memory.smallest)
        self.memory = replace(memory, recorded=recorded, idle=idle, smallest=smallest)
        no_better = (exact <= 10 * eps) | (idle >= _PATIENCE)
        done = (recorded <= self.limits.tolerance) & no_better
        self._end(done, Status.CONVERGED)
        exists = self.program.exists
        far = largest(self.point.y) > eps ** (-3 / 8) * memory.extent
        # Who has made no progress for long need not be that far away.
        far = far | (idle >= _GIVE_UP) & (largest(self.point.y) > 10 * memory.extent)
        lost = ~done & runs_away(far, self.program, self.point, hessian, predictor)
        self._end(lost, Status.UNBOUNDED)
        own = torch.maximum(largest(self.point.first.gradient), sizes.curved)
        own = own + self.limits.barrier / sizes.length
        strained = sizes.force > _STRAIN * own
        blocked = near & (sizes.infeasibility(self.point, exists) > self.limits.acceptable)
        strained = (strained | blocked) & (idle >= _STUCK) | (idle >= _GIVE_UP)
        strained = strained & ~(done | lost)
        will_do = recorded.isfinite()
        self._end(strained, Status.STALLED)
        self._end(strained & will_do, Status.CONVERGED)
        self._record((strained | lost) & ~will_do, self.point)
        return self._keep(~(done | lost | strained))

    def _advance(
        self,
        system: StepSystem,
        hessian: Tensor,
        sizes: Sizes,
        error: Tensor,
        predictor: Direction,
    ) -> None:
        program, point, memory = self.program, self.point, self.memory
        fixed = memory.fixed & (error > _DECREASE * memory.reference)
        reference = torch.where(fixed, memory.reference, torch.minimum(memory.reference, error))
        fraction = (1 - error).clamp(_FRACTION, 1 - 1e-4)
        free_target = self._predicted_target(predictor)
        moved, ratio, linear = self._free_step(
            system, hessian, free_target, predictor, fraction, reference
        )
        smaller = ratio <= _DECREASE
        detours = torch.where(smaller | fixed, 0, memory.detours + 1)
        accepted = (smaller | linear & (ratio <= _DETOUR) & (detours <= _DETOURS)) & ~fixed
        detours = torch.where(accepted, detours, 0)
        mean = self._mean()
        target = self._held_target(sizes, torch.where(fixed, memory.target, mean))
        target = torch.where(~fixed & (target == mean), 0.8 * mean, target)
        target = target.clamp_min(self.limits.barrier)
        stalled = torch.zeros_like(accepted)
        if not bool(accepted.all()):
            index = (~accepted).nonzero().squeeze(-1)
            searched, found = line_search(
                program.select(index),
                system.select(index),
                point.select(index),
                target[index],
                sizes.select(index),
                fraction[index],
            )
            moved = moved.put(index, searched)
            stalled[index] = ~found
        self.point = moved
        self.memory = replace(
            memory, reference=reference, fixed=~accepted, target=target, detours=detours
        )
        self._end(stalled & memory.recorded.isfinite(), Status.CONVERGED)
        self._end(stalled & ~memory.recorded.isfinite(), Status.STALLED)
        self._record(stalled & ~memory.recorded.isfinite(), moved)
        self._keep(~stalled)

    def _mean(self) -> Tensor:
        return self.point.mean_complementarity(self.program.exists)

    def _predicted_target(self, predictor: Direction) -> Tensor:
        """Barrier parameter of Mehrotra (1992): small if the predictor step gets far."""
        point, barrier = self.point, self.limits.barrier
        primal, dual = (reach.clamp_max(1) for reach in predictor.reach(point))
        step = predictor.scaled(primal, dual)
        product = (point.slack + step.slack) * (point.inequality + step.inequality)
        affine = product.sum(-1) / self.program.exists.sum(-1).clamp_min(1)
        excess = (self._mean() - barrier).clamp_min(0)
        ratio = (affine - barrier).clamp_min(0) / torch.where(excess > 0, excess, 1)
        return barrier + torch.where(excess > 0, ratio.clamp_max(1) ** 3 * excess, 0)

    def _held_target(self, sizes: Sizes, target: Tensor) -> Tensor:
        """The barrier parameter of fixed mode, lowered where its barrier problem is solved."""
        relative = target / sizes.work
        eps = torch.finfo(target.dtype).eps
        inner = sizes.error(self.point, self.program.exists, target)
        lower = torch.minimum(0.2 * relative, relative**1.5).clamp_min(1e-3 * eps) * sizes.work
        return torch.where(inner <= (_INNER * relative).clamp_min(100 * eps), lower, target)

    def _free_step(
        self,
        system: StepSystem,
        hessian: Tensor,
        target: Tensor,
        predictor: Direction,
        fraction: Tensor,
        reference: Tensor,
    ) -> tuple[Iterate, Tensor, Tensor]:
        """A predictor-corrector step, the error after it, and whether the linear model predicted it.

        The error is relative to ``reference``.
        """
        point, memory = self.point, self.memory
        direction = system.direction(target, predictor.slack * predictor.inequality)
        primal, dual = ((fraction * reach).clamp_max(1) for reach in direction.reach(point))
        # Linear programs gain by two lengths; elsewhere they leave a residual.
        equal = torch.minimum(primal, dual)
        two = system.linear_residual(direction, primal, dual)
        separate = two <= system.linear_residual(direction, equal, equal)
        primal, dual = torch.where(separate, primal, equal), torch.where(separate, dual, equal)
        moved, finite = advance(point, direction.scaled(primal, dual), self.program)
        exists = self.program.exists
        before = largest(point.stationarity()), point.violation(exists)
        expected = system.linear_residual(direction, primal, dual), (1 - primal) * before[1]
        after = largest(moved.stationarity()), moved.violation(exists)
        linear = [a <= b + _NONLINEAR * c for a, b, c in zip(after, expected, before, strict=True)]
        sizes = self._relaxed(Sizes.at(moved, hessian, memory.extent, memory.floor))
        ratio = self._error(moved, sizes) / reference
        return moved, torch.where(finite & system.convex, ratio, torch.inf), linear[0] & linear[1]
