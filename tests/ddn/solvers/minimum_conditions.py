"""The conditions of a minimum of the random problems, in NumPy, in the units of z.

Stationarity, feasibility, signs and complementarity, each relative to the terms that cancel in it, and
curvature in the directions that no active constraint holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["satisfies_conditions"]


def satisfies_conditions(
    kind: Any, data: dict, y: np.ndarray, mu: np.ndarray, limit: float
) -> bool:
    """Whether a point satisfies the conditions of a minimum.

    Args:
        kind: what the problem has, see :class:`tests.ddn.solvers.random_problems.Kind`.
        data: of one problem, by name.
        y: the point, in the units of the problem.
        mu: all multipliers, in the order of solvers, likewise.
        limit: largest relative error that is no error.
    """
    if not (np.isfinite(y).all() and np.isfinite(mu).all()):
        return False
    f, s, sh, sg = (float(data[name]) for name in ("f", "s", "sh", "sg"))
    Q, q, a, A, b, G, h = (data[name] for name in ("Q", "q", "a", "A", "b", "G", "h"))
    z = y / s
    gradient = Q @ z + q + a * z**3
    terms = np.abs(Q) @ np.abs(z) + np.abs(q) + a * np.abs(z) ** 3
    hessian = Q + np.diag(3 * a * z**2)
    rows, errors, active = [], [], []
    p = 0
    if kind.equality:
        if kind.equality == "linear":
            jacobian, value, size = A, A @ z - b, np.abs(A) @ np.abs(z) + np.abs(b)
        else:
            jacobian, value, size = 2 * z[None], np.array([z @ z - b[0]]), np.array([b[0]])
        p = len(value)
        multiplier = mu[:p] * sh / f
        if kind.equality == "sphere":
            hessian = hessian + 2 * multiplier[0] * np.eye(len(z))
        errors.append(np.abs(value).max() / size.max())
        rows.append((jacobian, multiplier))
        active.append(jacobian)
    inequalities = []
    if kind.inequality:
        inequalities.append(
            (G, G @ z - h, np.abs(G) @ np.abs(z) + np.abs(h), mu[p : p + len(h)] * sg / f)
        )
    if kind.bounded:
        lower, upper, m = data["lo"], data["up"], len(z)
        rest = mu[len(mu) - 2 * m :] * s / f
        for sign, bound, nu in ((-1.0, lower, rest[:m]), (1.0, upper, rest[m:])):
            known = np.isfinite(bound)
            if (nu[~known] != 0).any():
                return False
            value = np.where(known, sign * (z - np.where(known, bound, 0)), -1)
            size = np.abs(z) + np.where(known, np.abs(bound), 1)
            inequalities.append((sign * np.diag(known.astype(float)), value, size, nu))
    for jacobian, _, _, nu in inequalities:
        rows.append((jacobian, nu))
    for jacobian, multiplier in rows:
        gradient = gradient + jacobian.T @ multiplier
        terms = terms + np.abs(jacobian).T @ np.abs(multiplier)
    errors.append(np.abs(gradient).max() / terms.max())
    for jacobian, value, size, nu in inequalities:
        if not len(value):
            continue
        norms = np.linalg.norm(jacobian, axis=1)
        relative, weight = value / size.max(), nu * norms / terms.max()
        errors.append(max(relative.max(), 0))
        errors.append(max((-weight).max(), 0))
        errors.append(np.minimum(np.abs(weight), np.abs(relative)).max())
        active.append(jacobian[weight > limit])
    if not all(error <= limit for error in errors):
        return False
    stacked = np.concatenate(active) if active else np.zeros((0, len(z)))
    if len(stacked):
        _, values, basis = np.linalg.svd(stacked)
        rank = int((values > 1e-9 * values.max()).sum())
        free = basis[rank:].T
    else:
        free = np.eye(len(z))
    if not free.shape[1]:
        return True
    curvature = np.linalg.eigvalsh(free.T @ hessian @ free)
    return bool(curvature.min() >= -10 * limit**0.5 * np.abs(hessian).max())
