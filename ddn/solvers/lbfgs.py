"""Limited-memory quasi-Newton method, for smooth problems of many variables, with or without bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.optimality import largest
from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.box import Box, refuse_rows
from ddn.solvers.curvature import inverse_curvature, solve_to_minima, value_and_gradient
from ddn.solvers.curvature_pairs import CurvaturePairs
from ddn.solvers.first_order import Judge, Progress
from ddn.solvers.wolfe import Sample, search_wolfe

__all__ = ["LBFGS"]

# A direction of which projection on the bounds leaves less descent than this part is cut off at them instead.
_DESCENT = 0.1


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS method for

        argmin_y f(x, y)   subject to   l(x) ≤ y ≤ b(x),

    bounds being optional; nothing of size m × m is ever made. Every problem of the batch is independent.
    Steps follow the two-loop recursion (Nocedal 1980) to a point that satisfies the strong Wolfe
    conditions; a point where something is not finite is never taken, so that iterates stay inside the
    domain of f. Variables at or near a bound that −∇f pushes against it move along −∇f alone, and
    curvature counts among the others (two-metric projection, Bertsekas 1982); the step leads to the
    projection of its end, or, where f does not fall towards that, to the first bound (Morales and Nocedal
    2011).

    Attributes:
        memory: number of pairs that approximate the Hessian.
        max_iterations: per problem.
        tolerance: relative size of the projected gradient at which a problem counts as solved; None means √ε
            of the dtype. Iterations go on below it as long as they still improve, so that solutions are as
            exact as the dtype allows.
        max_line_search: evaluations of f and ∇f in one line search.
    """

    memory: int = 10
    max_iterations: int = 1000
    tolerance: float | None = None
    max_line_search: int = 40

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives; multipliers of a warm start are of no use to it."""
        refuse_rows(problem, "LBFGS")
        batch, m = problem.batch_shape(operands), problem.num_variables
        flat = problem.flatten_batch(operands)
        start = problem.starting_point(operands).reshape(batch.numel(), m)
        y = start if warm_start is None else warm_start.y.reshape(start.shape)
        box = Box.of(problem, flat, y)
        start, y = box.project(start), box.project(y).clone()
        status = torch.full(y.shape[:-1], int(Status.MAX_ITERATIONS), device=y.device)
        status = torch.where(box.is_empty, int(Status.INFEASIBLE), status)
        status = torch.where(box.has_nan, int(Status.NOT_FINITE), status)
        iterations = torch.zeros_like(status)
        if m:
            state = (y, status, iterations)
            solve_to_minima(
                lambda running: self._run(problem, flat, box, start, state, running),
                problem,
                flat,
                box,
                start,
                y,
                status,
            )
        else:
            status[status == Status.MAX_ITERATIONS] = int(Status.CONVERGED)
        gradient = problem.gradient(y, flat)
        multipliers = box.multipliers(y, gradient)
        return SolverResult(
            y.reshape(*batch, m),
            multipliers.reshape(*batch, multipliers.shape[-1]),
            status.reshape(batch),
            iterations.reshape(batch),
        )

    def _run(
        self,
        problem: Problem,
        flat: list[Tensor],
        box: Box,
        start: Tensor,
        state: tuple[Tensor, Tensor, Tensor],
        running: Tensor,
    ) -> None:
        """Solve the problems ``running`` from where they are; y, status and iterations are written."""
        y, status, iterations = state
        if len(running) == 0:
            return
        operands = problem.select(flat, running)
        run = _Run.begin(self, problem, operands, box.select(running), y[running], start[running])
        while len(running):
            within = iterations[running] < self.max_iterations
            going = run.iterate() & within
            y[running[~going]], status[running[~going]] = run.result(~going)
            iterations[running] += going
            if not bool(going.all()):
                running = running[going]
                run.keep(going.nonzero().squeeze(-1))


@dataclass
class _Run:
    """The problems that are still being solved; row i of everything belongs to the same problem."""

    options: LBFGS
    problem: Problem
    operands: list[Tensor]
    box: Box
    sample: Sample
    pairs: CurvaturePairs
    progress: Progress
    status: Tensor

    @classmethod
    def begin(
        cls,
        options: LBFGS,
        problem: Problem,
        operands: list[Tensor],
        box: Box,
        y: Tensor,
        start: Tensor,
    ) -> _Run:
        value, gradient = value_and_gradient(problem, y, operands)
        zero = torch.zeros_like(value)
        sample = Sample(zero, y, value, gradient, zero)
        progress = Progress.begin(problem, sample, start, operands)
        status = torch.full_like(zero, int(Status.MAX_ITERATIONS), dtype=torch.int64)
        status = torch.where(value == -torch.inf, int(Status.UNBOUNDED), status)
        status = torch.where(
            ~sample.is_finite & (value != -torch.inf), int(Status.NOT_FINITE), status
        )
        return cls(options, problem, operands, box, sample, CurvaturePairs(), progress, status)

    def keep(self, index: Tensor) -> None:
        """Go on with these problems alone."""
        self.operands = self.problem.select(self.operands, index)
        self.box, self.sample = self.box.select(index), self.sample.select(index)
        self.pairs, self.progress = self.pairs.select(index), self.progress.select(index)
        self.status = self.status[index]

    def result(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Best y and status of some problems."""
        solved = self.progress.is_acceptable & (self.status != Status.UNBOUNDED)
        y = torch.where(solved.unsqueeze(-1), self.progress.best, self.sample.y)
        return y[mask], torch.where(solved, int(Status.CONVERGED), self.status)[mask]

    def iterate(self) -> Tensor:
        """One iteration; returns the mask of the problems that go on."""
        sample, box, progress = self.sample, self.box, self.progress
        y, gradient = sample.y, sample.gradient
        target, direction, longest, fresh = self._direction()
        self.progress = progress = Judge(
            self.problem, self.operands, box, self.options.tolerance
        ).judge(progress, sample, direction, self.pairs.curvature(y) * largest(y))
        done = progress.is_done
        vanished = done & ~progress.is_acceptable
        self.status = torch.where(vanished, int(Status.STALLED), self.status)
        going = (self.status == Status.MAX_ITERATIONS) & ~done
        slope = torch.where(going, (gradient * direction).sum(-1), 0)
        origin = Sample(torch.zeros_like(slope), y, sample.value, gradient, slope)

        def evaluate(index: Tensor, step: Tensor) -> Sample:
            d, t = direction[index], step.unsqueeze(-1)
            chosen = box.select(index)
            # A full step ends at a bound to the last digit.
            trial = torch.where(t == 1, target[index], chosen.project(y[index] + t * d))
            value, slopes = value_and_gradient(
                self.problem, trial, self.problem.select(self.operands, index)
            )
            return Sample(step, trial, value, slopes, (slopes * d).sum(-1))

        search = search_wolfe(
            evaluate,
            origin,
            torch.ones_like(slope),
            longest,
            progress.rounding,
            self.options.max_line_search,
        )
        new, moved = search.sample, search.moved & going
        self.pairs = self.pairs.add(new.y - y, new.gradient - gradient, self.options.memory)
        # A direction that fails may be the fault of the pairs: once without.
        failed = going & ~moved
        self.pairs = self.pairs.forget(failed)
        self.status = torch.where(failed & fresh, int(Status.STALLED), self.status)
        self.progress = progress.moved(sample, new, moved)
        endless = going & (search.endless | self.progress.is_endless(new.y))
        self.status = torch.where(endless, int(Status.UNBOUNDED), self.status)
        self.sample = new
        return (self.status == Status.MAX_ITERATIONS) & ~done

    def _direction(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where a full step ends, the step, how many times it may be taken, and where no pair counts."""
        y, gradient, box = self.sample.y, self.sample.gradient, self.box
        counts = self.pairs.count(y)
        fresh = counts == 0
        projected = box.projected_gradient(y, gradient)
        inverse = 1 / torch.where(fresh, 1, self.pairs.curvature(y))
        index = fresh.nonzero().squeeze(-1)
        if len(index):
            inverse = inverse.index_put(
                (index,),
                inverse_curvature(
                    self.problem,
                    y[index],
                    projected[index],
                    self.problem.select(self.operands, index),
                    self.progress.size[index],
                ),
            )
        if not box.is_bounded:
            direction = -self.pairs.solve(gradient, None, inverse)
            direction = torch.where(
                ((direction * gradient).sum(-1) < 0).unsqueeze(-1),
                direction,
                -inverse.unsqueeze(-1) * gradient,
            )
            return y + direction, direction, torch.full_like(inverse, torch.inf), fresh
        steepest = -inverse.unsqueeze(-1) * gradient
        gentle = box.project(y + steepest)
        margin = (gentle - y).abs().amax(-1, keepdim=True)
        margin = torch.minimum(margin, (box.upper - box.lower) / 4)
        free = ~box.held(y, gradient, margin)
        newton = -self.pairs.solve(torch.where(free, gradient, 0), free, inverse)
        newton = torch.where(free, newton, steepest)
        # At a bound a variable cannot follow a step that leads out: without it descent is only steeper.
        stuck = ((newton < 0) & (y <= box.lower)) | ((newton > 0) & (y >= box.upper))
        newton = torch.where(stuck, 0, newton)
        target = box.project(y + newton)
        direction = target - y
        descent = (newton * gradient).sum(-1)
        good = (direction * gradient).sum(-1) <= _DESCENT * descent.clamp_max(0)
        cut = box.longest_step(y, newton).clamp_max(1).unsqueeze(-1) * newton
        safe = torch.where((descent < 0).unsqueeze(-1), box.project(y + cut), gentle)
        target = torch.where(good.unsqueeze(-1), target, safe)
        direction = target - y
        return target, direction, box.longest_step(y, direction).clamp_min(1), fresh
