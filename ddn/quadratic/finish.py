"""From a point near the solution of a quadratic program to the solution itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.optimality import Optimality
from ddn.quadratic.active_set import ActiveSetSystem
from ddn.quadratic.point import QuadraticPoint

__all__ = ["made_exact", "resumed"]

_MAX_ROUNDS = 6
# Residuals of so many units of rounding leave nothing to be done.
_ROUNDING = 1e3


def made_exact(
    found: QuadraticPoint, start: Tensor, system: ActiveSetSystem | None
) -> tuple[QuadraticPoint, Optimality, ActiveSetSystem | None]:
    """A solution made exact, how good it is, and the system of its active set, if it is known.

    Args:
        found: near the solution.
        start: where solvers start, ``(batch, n)``.
        system: of the active set that the solver has found, or None.
    """
    best = found.optimality(start)
    if _is_rounding(best):
        if system is not None and system.free is None:
            held = system.kept[:, found.data.num_equalities :]
            system = system if bool((held == best.active).all()) else None
        return found, best, system
    point, system, active = found, None, None
    trial, known = found, None
    for _ in range(_MAX_ROUNDS):
        # An active set may get worse before it is right.
        trial, tried, tried_active = trial.polished()
        optimality = trial.optimality(start)
        # Where rows are dependent, multipliers of the active set are anything; the solver's own are as good.
        worst = [o.residuals.nan_to_num(torch.inf).amax(0) for o in (optimality, best)]
        better = (worst[0] < worst[1]) & (tried.regular | ~_is_exact(best))
        if bool(better.all()):
            point, best, system, active = trial, optimality, tried, tried_active
        elif bool(better.any()):
            point, system, active = trial.where(better, point), None, None
            best = point.optimality(start)
        if _is_rounding(best) or (known is not None and bool((tried_active == known).all())):
            break
        known = tried_active
    same = active is not None and bool((best.active == active).all())
    return point, best, system if same else None


def _is_rounding(optimality: Optimality) -> bool:
    """Whether nothing is left to be done."""
    residuals = optimality.residuals
    return bool((residuals <= _ROUNDING * torch.finfo(residuals.dtype).eps).all())


def resumed(point: QuadraticPoint, start: Tensor) -> tuple[QuadraticPoint, Tensor, Tensor]:
    """The solution of a problem that has nearly the active set of the given point.

    Solves on the active set, corrects that by what multipliers and slacks say, and so on: a primal-dual
    active-set method, which is Newton's method for the optimality conditions written as equations
    (Hintermüller, Ito and Kunisch 2003). It ends in a round or two where it ends at all.

    Args:
        point: the solution of a similar problem, as a point of this one.
        start: where solvers start, ``(batch, n)``.

    Returns:
        The point, where it is a solution, and the number of rounds, ``(batch,)`` each.
    """
    solved = torch.zeros_like(point.y[:, 0], dtype=torch.bool)
    rounds = torch.zeros_like(solved, dtype=torch.int64)
    for _ in range(_MAX_ROUNDS):
        rounds += ~solved
        better, system, _ = point.polished()
        point = point.where(solved, better)
        solved = solved | _is_exact(point.optimality(start)) & system.regular
        if bool(solved.all()):
            break
    return point, solved, rounds


def _is_exact(optimality: Optimality) -> Tensor:
    residuals = optimality.residuals
    limit = torch.finfo(residuals.dtype).eps ** (2 / 3)
    exact: Tensor = (residuals <= limit).all(0)
    return exact
