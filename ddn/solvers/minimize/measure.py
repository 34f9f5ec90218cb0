"""How well points of a batch solve their problems, and the last digits of those that nearly do.

SciPy's methods stop where the objective no longer changes, with half of the digits of y. Newton's method on
the active inequalities finds the others, and tells a solution from a point that only looks like one because
the problem is badly conditioned. What it finds is taken only if the optimality conditions hold better there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.dense import Dense
from ddn.kkt.system import KKTSystem
from ddn.lagrangian import Lagrangian
from ddn.multipliers import nonnegative_multipliers
from ddn.optimality import Optimality, Scales, acceptable_residual, largest
from ddn.solvers.minimize.batch import ProblemBatch

__all__ = ["Measured", "finish", "measure"]

_EPS = float(torch.finfo(torch.float64).eps)
_MAX_STEPS = 3
# A longer step, relative to y, must lead downhill.
_SHORT = 1e-3
# Dense systems of more numbers, for one problem, are not solved; all problems together have at most so many.
_MAX_ENTRIES, _AT_ONCE = 2**20, 2**23


@dataclass(frozen=True)
class Measured:
    """What is known of points of a batch.

    Attributes:
        y: ``(batch, m)``.
        multipliers: μ = (λ, ν), ``(batch, p + q)``.
        active: inequalities held at equality, ``(batch, q)``.
        residual: largest relative residual of the optimality conditions, infinite where undefined,
            ``(batch,)``.
        violation: that of the constraints alone.
        length: of y, as the residuals count it, ``(batch,)``.
    """

    y: Tensor
    multipliers: Tensor
    active: Tensor
    residual: Tensor
    violation: Tensor
    length: Tensor

    def select(self, index: Tensor) -> Measured:
        """Some problems of the batch."""
        return Measured(*(part[index] for part in self._parts()))

    def where(self, condition: Tensor, other: Measured) -> Measured:
        """This where the condition ``(batch,)`` holds, the other elsewhere."""
        pairs = zip(self._parts(), other._parts(), strict=True)
        return Measured(
            *(
                torch.where(condition.unsqueeze(-1) if own.ndim > 1 else condition, own, others)
                for own, others in pairs
            )
        )

    def put(self, index: Tensor, values: Measured) -> None:
        """Replace some problems of the batch."""
        for own, value in zip(self._parts(), values._parts(), strict=True):
            own[index] = value

    def _parts(self) -> tuple[Tensor, ...]:
        return (
            self.y,
            self.multipliers,
            self.active,
            self.residual,
            self.violation,
            self.length,
        )


def measure(batch: ProblemBatch, y: Tensor, stated: Tensor) -> Measured:
    """Complete the multipliers and measure the optimality conditions.

    A bound takes what the other constraints leave of ∇f in its variable, and holds the variable, if that is
    larger than its slack, both relative to their size.

    Args:
        batch: the problems.
        y: ``(batch, m)``.
        stated: multipliers of the rows that the node states, ``(batch, p + r)``; NaN where unknown.
    """
    problem, operands = batch.problem, batch.operands
    scales = Scales.at(problem, y, operands)
    jacobian = problem.stated_jacobian(y, operands)
    q = scales.row_norms.shape[-1]
    p = scales.constraint.shape[-1] - q
    unknown = stated.isnan().any(-1)
    if bool(unknown.any()):
        near = scales.relative_slack() <= acceptable_residual(y.dtype)
        estimate = nonnegative_multipliers(scales.gradient, jacobian, near, problem.has_bounds)
        stated = torch.where(unknown.unsqueeze(-1), estimate[:, : stated.shape[-1]], stated)
    stated = torch.cat([stated[:, :p], stated[:, p:].clamp_min(0)], -1)
    if not problem.has_bounds:
        return _measured(batch, y, stated, scales)
    pull = (stated.unsqueeze(-2) @ jacobian).squeeze(-2)
    bounds = _bound_multipliers(batch, y, scales, pull)
    lower, upper = (bounds > 0).unflatten(-1, (2, -1)).unbind(-2)
    y = torch.where(lower, batch.bounds[:, 0], y)
    y = torch.where(upper, batch.bounds[:, 1], y)
    return _measured(batch, y, torch.cat([stated, bounds], -1))


def _bound_multipliers(batch: ProblemBatch, y: Tensor, scales: Scales, pull: Tensor) -> Tensor:
    """Of lower and upper bounds, ``(batch, 2m)``, given Aᵀλ + Gᵀν of the other rows."""
    left = scales.gradient + pull
    forces = torch.maximum(scales.forces, largest(pull)).unsqueeze(-1)
    forces = torch.where(forces > 0, forces, 1)
    length = torch.where(scales.length > 0, scales.length, 1).unsqueeze(-1)
    past = batch.past_bounds(y).unflatten(-1, (2, -1))
    exists = batch.bounds.isfinite()
    result = []
    for side, push in enumerate((left, -left)):
        slack = (-past[:, side]).clamp_min(0) / length
        takes = exists[:, side] & (push > 0) & (push / forces >= slack)
        result.append(torch.where(takes & (slack <= acceptable_residual(y.dtype)), push, 0))
    return torch.cat(result, -1)


def _measured(
    batch: ProblemBatch, y: Tensor, multipliers: Tensor, scales: Scales | None = None
) -> Measured:
    if scales is None:
        scales = Scales.at(batch.problem, y, batch.operands)
    system = _system(batch, y, multipliers)
    optimality = Optimality.at(system, scales)
    residual = optimality.residuals.amax(0).nan_to_num(torch.inf)
    violation = optimality.primal_feasibility.nan_to_num(torch.inf)
    return Measured(y, multipliers, optimality.active, residual, violation, scales.length)


def _system(
    batch: ProblemBatch, y: Tensor, multipliers: Tensor, active: Tensor | None = None
) -> KKTSystem:
    if active is None:
        q = batch.problem.num_inequalities(y, batch.operands)
        rows = multipliers.shape[-1] - q
        active = torch.ones_like(multipliers[:, rows:], dtype=torch.bool)
    return KKTSystem(Lagrangian(batch.problem), y, multipliers, active, batch.operands)


def finish(batch: ProblemBatch, found: Measured) -> tuple[Measured, Tensor]:
    """Newton's method on the active inequalities.

    Returns:
        The best points, and the length of a Newton step there relative to y, ``(batch,)``: how far they
        are from the solution; zero where that is not known.
    """
    size = (found.y.shape[-1] + found.multipliers.shape[-1]) ** 2
    distance = torch.zeros_like(found.residual)
    near = found.residual <= acceptable_residual(found.y.dtype)
    candidates = near.nonzero().squeeze(-1)
    if size > _MAX_ENTRIES or not len(candidates):
        return found, distance
    found = found.select(torch.arange(len(found.y)))  # a copy
    for index in candidates.split(max(1, _AT_ONCE // max(size, 1))):
        part, steps = _newton(batch.select(index), found.select(index))
        found.put(index, part)
        distance[index] = steps
    return found, distance


def _newton(batch: ProblemBatch, point: Measured) -> tuple[Measured, Tensor]:
    distance = torch.zeros_like(point.residual)
    running = torch.ones_like(point.residual, dtype=torch.bool)
    for _ in range(_MAX_STEPS):
        system = _system(batch, point.y, point.multipliers, point.active)
        first, second = system.linearized.values
        step, correction, failed = Dense().factorize(system).solve(-first, -second)
        known = ~failed & step.isfinite().all(-1) & correction.isfinite().all(-1)
        size = torch.where(point.length > 0, point.length, 1)
        relative = torch.where(known, largest(step) / size, 0)
        distance = torch.where(running, relative, distance)
        downhill = (step * first).sum(-1) <= 0
        trial = _measured(
            batch,
            batch.clamp(point.y + torch.where(known.unsqueeze(-1), step, 0)),
            _one_sided(batch, point.multipliers + torch.where(known.unsqueeze(-1), correction, 0)),
        )
        taken = running & known & (trial.residual < point.residual)
        taken = taken & (downhill | (relative <= _SHORT))
        point = trial.where(taken, point)
        running = taken
        if not bool(running.any()):
            break
    return point, distance


def _one_sided(batch: ProblemBatch, multipliers: Tensor) -> Tensor:
    """Both bounds of a constant are held: only the difference of their multipliers counts, one is zero."""
    if not batch.problem.has_bounds:
        return multipliers
    m = batch.bounds.shape[-1]
    others, lower, upper = multipliers.split([multipliers.shape[-1] - 2 * m, m, m], -1)
    fixed, net = batch.bounds[:, 0] == batch.bounds[:, 1], lower - upper
    lower = torch.where(fixed, net.clamp_min(0), lower)
    upper = torch.where(fixed, (-net).clamp_min(0), upper)
    return torch.cat([others, lower, upper], -1)
