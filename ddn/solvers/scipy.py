"""The methods of ``scipy.optimize.minimize``, with exact derivatives, for each problem of the batch."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.barrier.start import inside_bounds
from ddn.solvers.minimize.batch import ProblemBatch
from ddn.solvers.minimize.feasibility import least_violation
from ddn.solvers.minimize.measure import finish, measure
from ddn.solvers.minimize.method import ScipyMethod, find_method
from ddn.solvers.minimize.single import Array, EscapeError, Frame, SingleProblem

__all__ = ["ScipyMinimize"]

_EPS = float(np.finfo(np.float64).eps)
# SciPy is started so often for one problem, each time in the units of the point that it has found, as long
# as this reduces the residual by the factor.
_MAX_ROUNDS, _PROGRESS = 5, 0.3
# Relative violation from which a point counts as infeasible, not as inexact.
_INFEASIBLE = _EPS**0.25
# Largest Newton step, relative to y, that is left to do at a solution.
_NEAR = _EPS**0.25

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class ScipyMinimize:
    """``scipy.optimize.minimize`` (Virtanen et al. 2020) for

        argmin_y f(x, y)   subject to   h(x, y) = 0,  g(x, y) ≤ 0,  l(x) ≤ y ≤ b(x),

    problem by problem, in float64 on CPU whatever the dtype and device. Gradients, constraint Jacobians
    and Hessian-vector products are exact, from autograd. SciPy works in units that follow from the data
    of each problem, so that its tolerances are relative and results do not depend on units.

    A problem counts as solved if the first-order conditions hold, whatever SciPy says of it. Without a
    ``tolerance``, Newton steps on the active inequalities find the last digits, which SciPy leaves open.

    * ``"SLSQP"``: all problems; first derivatives. Equality rows must be linearly independent.
    * ``"trust-constr"``: all problems; first and second derivatives.
    * ``"L-BFGS-B"``, ``"TNC"``: no constraints but bounds; first derivatives.
    * ``"BFGS"``, ``"CG"``: no constraints; first derivatives.
    * ``"Newton-CG"``, ``"trust-ncg"``, ``"trust-krylov"``, ``"trust-exact"``: no constraints; first and
      second derivatives.

    Attributes:
        method: of SciPy; None means L-BFGS-B for problems without constraints other than bounds, and SLSQP
            for all others.
        tolerance: relative residual of the first-order conditions (stationarity, feasibility,
            complementarity) at which a problem counts as solved, and at which SciPy is told to stop; None
            means that SciPy goes on as long as it makes progress, and that √ε of float64, 1.5e-8, will do.
        max_iterations: of SciPy, per problem (evaluations of the objective for TNC).
        workers: threads that solve problems of the batch side by side. Python itself runs in one of them at
            a time: more than one can only help where single evaluations of the node take long.
        options: further options of SciPy's method, such as ``{"maxcor": 50}``; they take precedence over all
            others. Lengths among them are in units of the problem, about that of y.
    """

    method: str | None = None
    tolerance: float | None = None
    max_iterations: int = 1000
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.method is not None:
            find_method(self.method)
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(
                f"ScipyMinimize: tolerance is a positive number or None, not {self.tolerance}."
            )
        for name in ("max_iterations", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"ScipyMinimize: {name} is at least 1, but was given {getattr(self, name)}."
                )

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives.

        Args:
            problem: the problem.
            operands: inputs and captured tensors.
            warm_start: its y is where SciPy starts, whose methods have no use for multipliers.

        Raises:
            SignatureError: the problem has constraints or bounds that the method does not treat.
        """
        method = self._method(problem)
        batch = ProblemBatch.of(problem, operands)
        point = problem.starting_point(operands) if warm_start is None else warm_start.y
        shape = point.shape
        y = point.detach().cpu().double().reshape(-1, shape[-1])
        if warm_start is None and problem.node.starting_point is None:
            y = batch.stretched(y)
        y = batch.clamp(y)
        if method.starts_inside or warm_start is None:
            y = torch.where(y.isfinite(), inside_bounds(y, batch.bounds), y)
        run = _Run(self, method, batch, y)
        with _quiet():
            run.complete()
        like = operands[0]
        return SolverResult(
            run.y.reshape(shape).to(like),
            run.multipliers.reshape(*shape[:-1], -1).to(like),
            run.status.reshape(shape[:-1]).to(like.device),
            run.iterations.reshape(shape[:-1]).to(like.device),
        )

    def _method(self, problem: Problem) -> ScipyMethod:
        states = problem.has_equality or problem.node.inequality is not None
        if self.method is None:
            return find_method("SLSQP" if states else "L-BFGS-B")
        method = find_method(self.method)
        name = type(problem.node).__name__
        if states and not method.treats_constraints:
            raise SignatureError(
                f"{name} states equalities or inequalities, which {method.name} does not treat: use "
                'ScipyMinimize(method="SLSQP") or "trust-constr", or no method to get the first.'
            )
        if problem.has_bounds and not method.treats_bounds:
            raise SignatureError(
                f"{name} states bounds, which {method.name} does not treat: use "
                'ScipyMinimize(method="L-BFGS-B"), or no method to get it by default.'
            )
        return method


@dataclass(frozen=True)
class _Exit:
    """How one call of SciPy ended: where, with which μ of the stated rows (NaN if unknown), and why."""

    y: Array
    multipliers: Array
    status: Status
    iterations: int


class _Run:
    """One solve of a batch, in rounds: SciPy from the best point so far, then a measurement."""

    def __init__(
        self, solver: ScipyMinimize, method: ScipyMethod, batch: ProblemBatch, y: Tensor
    ) -> None:
        self._solver = solver
        self._method = method
        self._batch = batch
        exact = solver.tolerance is None
        self._accepted = _EPS**0.5 if solver.tolerance is None else solver.tolerance
        self._finishes = exact
        # Calls with captured tensors replace those of the module for a while: one thread at a time.
        captures = len(batch.operands) > batch.problem.num_inputs
        self._lock = threading.Lock() if solver.workers > 1 and captures else None
        size = len(y)
        self.y = y
        constraints = batch.problem.constraints(y, batch.operands)
        self.multipliers = torch.zeros_like(constraints)
        self._num_stated = constraints.shape[-1] - batch.problem.num_bound_rows
        self.status = torch.full((size,), int(Status.MAX_ITERATIONS))
        self.status[batch.empty()] = int(Status.INFEASIBLE)
        self.iterations = torch.zeros(size, dtype=torch.int64)
        self._residual = torch.full((size,), torch.inf, dtype=torch.float64)
        self._violation = self._residual.clone()
        self._extent = torch.zeros_like(self._residual)
        self._far = torch.zeros_like(self.status, dtype=torch.bool)

    def complete(self) -> None:
        """Solve all problems."""
        todo = (self.status == Status.MAX_ITERATIONS).nonzero().squeeze(-1)
        rescued = torch.zeros_like(self.status, dtype=torch.bool)
        for _ in range(_MAX_ROUNDS):
            if not len(todo):
                break
            again = self._round(todo)
            lost = todo[self._is_lost(todo) & ~rescued[todo]]
            rescued[lost] = True
            found = self._restore(lost)
            again = torch.cat([again[~torch.isin(again, lost)], found])
            todo = again[self.iterations[again] < self._solver.max_iterations]

    def _round(self, todo: Tensor) -> Tensor:
        """One call of SciPy for each of some problems; returns those worth another."""
        proposed = self._batch.select(todo).frames(self.y[todo], self._far[todo])
        undefined = torch.tensor([frame is None for frame in proposed])
        self.status[todo[undefined]] = int(Status.NOT_FINITE)
        todo, frames = todo[~undefined], [frame for frame in proposed if frame is not None]
        if not len(todo):
            return todo
        lengths = torch.tensor([frame.length for frame in frames], dtype=torch.float64)
        extent = self._extent[todo]
        self._extent[todo] = torch.where(extent > 0, extent, lengths)
        exits = self._map(self._minimize, zip(todo.tolist(), frames, strict=True))
        status = torch.tensor([int(found.status) for found in exits])
        y = torch.from_numpy(np.stack([found.y for found in exits]))
        stated = torch.from_numpy(np.stack([found.multipliers for found in exits]))
        self.iterations[todo] += torch.tensor([found.iterations for found in exits])
        escaped = status == Status.UNBOUNDED
        again = self._escape(todo[escaped], y[escaped])
        kept = ~escaped
        self._far[todo[kept]] = False
        return torch.cat([again, self._judge(todo[kept], y[kept], stated[kept], status[kept])])

    def _escape(self, todo: Tensor, y: Tensor) -> Tensor:
        """Points that left their scale: unbounded if they left every scale; returns the others."""
        if not len(todo):
            return todo
        self.y[todo] = y
        self._residual[todo] = torch.inf
        self._far[todo] = True
        limit = self._extent[todo].clamp_min(1) / _EPS
        everywhere = ~(y.abs().amax(-1) < limit) | (self._objective(todo) == -torch.inf)
        self.status[todo] = torch.where(everywhere, int(Status.UNBOUNDED), int(Status.STALLED))
        return todo[~everywhere]

    def _objective(self, todo: Tensor) -> Tensor:
        batch = self._batch.select(todo)
        values: Tensor = batch.problem.objective(self.y[todo], batch.operands)
        return values

    def _judge(self, todo: Tensor, y: Tensor, stated: Tensor, status: Tensor) -> Tensor:
        """Keep what is better than before; returns the problems worth another round."""
        if not len(todo):
            return todo
        batch = self._batch.select(todo)
        found = measure(batch, y, stated)
        distance = torch.zeros_like(found.residual)
        if self._finishes:
            found, distance = finish(batch, found)
        before = self._residual[todo]
        better = (found.residual < before) | ~before.isfinite()
        taken = todo[better]
        self.y[taken] = found.y[better]
        self.multipliers[taken] = found.multipliers[better]
        self._residual[taken] = found.residual[better]
        self._violation[taken] = found.violation[better]
        near = distance <= _NEAR
        solved = (self._residual[todo] <= self._accepted) & near
        self.status[todo] = torch.where(solved, int(Status.CONVERGED), status)
        improved = found.residual < _PROGRESS * before
        return todo[~solved & improved]

    def _is_lost(self, index: Tensor) -> Tensor:
        """Where constraints are violated after all."""
        if not self._num_stated:
            return torch.zeros_like(index, dtype=torch.bool)
        ended = self.status[index] == Status.STALLED
        ended = ended | (self.status[index] == Status.MAX_ITERATIONS)
        lost: Tensor = ended & ~(self._violation[index] <= _INFEASIBLE)
        return lost

    def _restore(self, index: Tensor) -> Tensor:
        """Look for feasible points near; returns the problems that have one, which start there again."""
        if not len(index):
            return index
        frames = self._batch.select(index).frames(self.y[index], self._far[index])
        work = [
            (i, frame) for i, frame in zip(index.tolist(), frames, strict=True) if frame is not None
        ]
        found = []
        for (i, frame), (z, infeasible) in zip(
            work, self._map(self._least_violation, work), strict=True
        ):
            self.y[i] = torch.from_numpy(frame.point(z))
            if infeasible:
                self.status[i] = int(Status.INFEASIBLE)
            else:
                found.append(i)
        result = torch.tensor(found, dtype=torch.int64)
        self._residual[result] = torch.inf
        return result

    # -- one problem, in a thread ---------------------------------------------------------------

    def _minimize(self, item: tuple[int, Frame]) -> _Exit:
        index, frame = item
        unknown = np.full(self._num_stated, np.nan)
        if not frame.free.any():
            return _Exit(frame.y, unknown, Status.STALLED, 0)
        single = self._single(index, frame)
        left = self._solver.max_iterations - int(self.iterations[index])
        try:
            result = self._method.minimize(single, left, self._tolerance, self._solver.options)
        except EscapeError as escape:
            return _Exit(frame.point(escape.z), unknown, Status.UNBOUNDED, single.num_gradients)
        y = frame.point(np.asarray(result.x, dtype=np.float64))
        if not np.isfinite(y).all():
            return _Exit(frame.y, unknown, Status.STALLED, int(result.nit))
        scaled = self._method.multipliers(result, single)
        multipliers = unknown if scaled is None else frame.multipliers(scaled)
        exhausted = result.status == self._method.exhausted
        status = Status.MAX_ITERATIONS if exhausted else Status.STALLED
        return _Exit(y, multipliers, status, int(result.nit))

    def _least_violation(self, item: tuple[int, Frame]) -> tuple[Array, bool]:
        index, frame = item
        return least_violation(self._single(index, frame), self._solver.max_iterations)

    def _single(self, index: int, frame: Frame) -> SingleProblem:
        problem = self._batch.problem
        operands = problem.select(self._batch.operands, torch.tensor(index))
        return SingleProblem(problem, operands, frame, self._lock)

    @property
    def _tolerance(self) -> float:
        return _EPS**0.5 if self._solver.tolerance is None else self._solver.tolerance

    def _map(self, function: Callable[[Item], Value], items: Iterable[Item]) -> list[Value]:
        """Results in order; an exception in a thread is raised here."""
        work = list(items)
        workers = min(self._solver.workers, len(work))
        if workers <= 1:
            return [function(item) for item in work]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(function, work))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without SciPy's own warnings, and those of NumPy about numbers: outcomes are measured."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        for module in (r"scipy\.", r"numpy\.", r"ddn\.solvers\.(scipy|minimize)"):
            warnings.filterwarnings("ignore", module=module)
        yield
