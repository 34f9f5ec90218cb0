"""Problems of every kind of cone, with random parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True)
class Family:
    """A problem, its parameters and variables, and values ``(*batch, *shape)`` for the parameters."""

    problem: Any
    parameters: list[Any]
    variables: list[Any]
    values: Callable[..., tuple[Tensor, ...]]


FAMILIES: dict[str, Callable[[], Family]] = {}


def family(build: Callable[[], Family]) -> Callable[[], Family]:
    FAMILIES[build.__name__] = build
    return build


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def symmetric(*shape: int) -> Tensor:
    matrix = normal(*shape, shape[-1])
    return matrix + matrix.mT


def definite(*shape: int) -> Tensor:
    matrix = normal(*shape, shape[-1])
    return matrix @ matrix.mT + torch.eye(shape[-1], dtype=torch.float64)


@family
def quadratic() -> Family:
    n, target, A, b, x = 6, cp.Parameter(6), cp.Parameter((3, 6)), cp.Parameter(3), cp.Variable(6)
    objective = cp.sum_squares(x - target) + 0.1 * cp.sum(x)
    problem = cp.Problem(cp.Minimize(objective), [A @ x <= b, x >= -0.5])
    return Family(
        problem,
        [target, A, b],
        [x],
        lambda *batch: (normal(*batch, n), normal(*batch, 3, n), normal(*batch, 3).abs()),
    )


@family
def quadratic_form() -> Family:
    Q, q, x = cp.Parameter((4, 4), PSD=True), cp.Parameter(4), cp.Variable(4)
    problem = cp.Problem(cp.Minimize(cp.quad_form(x, Q) + q @ x), [cp.norm1(x) <= 1])
    return Family(problem, [Q, q], [x], lambda *b: (definite(*b, 4), normal(*b, 4)))


@family
def linear() -> Family:
    """A unique vertex: costs in general position."""
    c, bound, x = cp.Parameter(4), cp.Parameter(nonneg=True), cp.Variable(4)
    problem = cp.Problem(cp.Minimize(c @ x), [cp.sum(x) == 1, x >= 0, x <= bound])
    return Family(
        problem,
        [c, bound],
        [x],
        lambda *b: (normal(*b, 4), 0.4 + 0.05 * normal(*b).abs().clamp(max=1)),
    )


@family
def second_order() -> Family:
    A, b, x = cp.Parameter((8, 5)), cp.Parameter(8), cp.Variable(5)
    objective = cp.norm(A @ x - b) + 0.1 * cp.norm(x, 1)
    problem = cp.Problem(cp.Minimize(objective), [cp.norm(x) <= 0.5])
    return Family(problem, [A, b], [x], lambda *batch: (normal(*batch, 8, 5), normal(*batch, 8)))


@family
def huber() -> Family:
    A, b, x = cp.Parameter((6, 3)), cp.Parameter(6), cp.Variable(3)
    objective = cp.sum(cp.huber(A @ x - b, 0.5)) + 0.1 * cp.norm(x)
    problem = cp.Problem(cp.Minimize(objective))
    return Family(problem, [A, b], [x], lambda *batch: (normal(*batch, 6, 3), normal(*batch, 6)))


@family
def nearest_correlation() -> Family:
    C, X = cp.Parameter((4, 4)), cp.Variable((4, 4), PSD=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C)), [cp.diag(X) == 1])
    return Family(problem, [C], [X], lambda *b: (normal(*b, 4, 4),))


@family
def semidefinite() -> Family:
    C, X = cp.Parameter((4, 4), symmetric=True), cp.Variable((4, 4), PSD=True)
    problem = cp.Problem(cp.Maximize(cp.trace(C @ X)), [cp.trace(X) == 1, X[0, 0] >= 0.3])
    return Family(problem, [C], [X], lambda *b: (symmetric(*b, 4),))


@family
def largest_eigenvalue() -> Family:
    C, d = cp.Parameter((4, 4), symmetric=True), cp.Variable(4)
    objective = cp.lambda_max(C + cp.diag(d)) + 0.5 * cp.sum_squares(d)
    return Family(cp.Problem(cp.Minimize(objective)), [C], [d], lambda *b: (symmetric(*b, 4),))


@family
def log_determinant() -> Family:
    """The graphical lasso: semidefinite and exponential cones."""
    Q, S = cp.Parameter((3, 3), PSD=True), cp.Variable((3, 3), symmetric=True)
    objective = cp.trace(Q @ S) - cp.log_det(S) + 0.1 * cp.sum(cp.abs(S))
    return Family(cp.Problem(cp.Minimize(objective)), [Q], [S], lambda *b: (definite(*b, 3),))


@family
def entropy() -> Family:
    c, x = cp.Parameter(6), cp.Variable(6)
    problem = cp.Problem(cp.Maximize(cp.sum(cp.entr(x)) + c @ x), [cp.sum(x) == 1])
    return Family(problem, [c], [x], lambda *b: (normal(*b, 6),))


@family
def logistic() -> Family:
    A, x = cp.Parameter((8, 3)), cp.Variable(3)
    objective = cp.sum(cp.logistic(A @ x)) + 0.5 * cp.sum_squares(x)
    return Family(cp.Problem(cp.Minimize(objective)), [A], [x], lambda *b: (normal(*b, 8, 3),))


@family
def power() -> Family:
    c, x, t = cp.Parameter(4), cp.Variable(4), cp.Variable(4)
    constraints = [cp.PowCone3D(t, np.ones(4), x, 1 / 2.7), cp.sum(x) <= 2]
    problem = cp.Problem(cp.Minimize(cp.sum(t) - c @ x), constraints)
    return Family(problem, [c], [x], lambda *b: (1 + normal(*b, 4).abs().clamp(max=1),))


@family
def general_power() -> Family:
    c, x, u = cp.Parameter(4, nonneg=True), cp.Variable(4), cp.Variable()
    mean = cp.PowConeND(x, u, np.array([0.1, 0.2, 0.3, 0.4]))
    problem = cp.Problem(cp.Maximize(u - 0.05 * cp.sum_squares(x)), [mean, c @ x <= 1])
    return Family(problem, [c], [x], lambda *b: (0.5 + normal(*b, 4).abs().clamp(max=1),))
