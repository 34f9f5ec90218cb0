"""The cases as problems of CVXPY."""

from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp

from benchmarks.peers.cases import Case

__all__ = ["PROBLEMS", "Stated"]

Stated = tuple[cp.Problem, list[cp.Parameter], list[cp.Variable]]


def simplex(case: Case) -> Stated:
    (n,) = case.sizes
    x, y = cp.Parameter(n), cp.Variable(n)
    # Not y ≥ 0: the Moreau backend of cvxpylayers 1.2 returns points that violate that.
    constraints = [cp.sum(y) == 1, 2 * y >= 0]
    return cp.Problem(cp.Minimize(cp.sum_squares(y - x) / 2), constraints), [x], [y]


def entropy(case: Case) -> Stated:
    (n,) = case.sizes
    x, y = cp.Parameter(n), cp.Variable(n)
    return cp.Problem(cp.Minimize(-cp.sum(cp.entr(y)) - x @ y), [cp.sum(y) == 1]), [x], [y]


def second_order_cone(case: Case) -> Stated:
    n, rows = case.sizes
    F, g, y = cp.Parameter((rows, n)), cp.Parameter(rows), cp.Variable(n)
    return cp.Problem(cp.Minimize(cp.norm(F @ y - g)), [cp.norm(y) <= 0.25]), [F, g], [y]


def semidefinite(case: Case) -> Stated:
    (n,) = case.sizes
    C, Y = cp.Parameter((n, n)), cp.Variable((n, n), PSD=True)
    return cp.Problem(cp.Minimize(cp.sum_squares(Y - C)), [cp.diag(Y) == 1]), [C], [Y]


def exponential_cone(case: Case) -> Stated:
    n, rows = case.sizes
    F, g, y = cp.Parameter((rows, n)), cp.Parameter(rows), cp.Variable(n)
    objective = cp.log_sum_exp(F @ y + g) + cp.sum_squares(y) / 2
    return cp.Problem(cp.Minimize(objective)), [F, g], [y]


PROBLEMS: dict[str, Callable[[Case], Stated]] = {
    "simplex": simplex,
    "entropy": entropy,
    "second_order_cone": second_order_cone,
    "semidefinite": semidefinite,
    "exponential_cone": exponential_cone,
}
