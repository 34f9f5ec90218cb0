"""First derivatives of the solution of a cone program with respect to its data, in both modes.

With (u_x, u_z) the solution of the system of :mod:`ddn.conic.system` for cotangents (x̄, z̄),

    P̄ = −sym(u_x xᵀ),   q̄ = −u_x,   Ā = −(z u_xᵀ + u_z xᵀ),   b̄ = u_z.

The optimal value v = ½ xᵀP x + qᵀx + d moves with the data alone, the Lagrangian being stationary:
dv = ½ xᵀdP x + dqᵀx + dd + zᵀ(dA x − db).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddn.conic.canonical import ConeProgram, Data
from ddn.conic.pattern import Pattern
from ddn.conic.products import constraint_product, symmetric_product, transposed_product
from ddn.conic.scaling import Scaling
from ddn.conic.system import ConeSystem

__all__ = ["pull_back", "push_forward", "value_at"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


def value_at(program: ConeProgram, data: Data, x: Array) -> Array:
    """Objective at x, ``(batch,)``."""
    product = symmetric_product(program, data.P, x)
    return np.asarray(((0.5 * product + data.q) * x).sum(-1) + data.d)


def pull_back(
    pattern: Pattern,
    parameters: Array,
    point: tuple[Array, Array, Array],
    cotangents: tuple[Array, Array, Array],
) -> tuple[Array, Flags]:
    """Gradients of θ, and where the system is singular.

    Args:
        pattern: of the cone program.
        parameters: θ, ``(batch, p)``.
        point: x ``(batch, n)``, z ``(batch, m)``, s ``(batch, m)``.
        cotangents: of x ``(batch, n, k)``, z ``(batch, m, k)`` and the optimal value ``(batch, k)``.

    Returns:
        Gradients ``(batch, k, p)`` and flags ``(batch,)``.
    """
    program = pattern.program
    x, z, _ = point
    grad_x, grad_z, grad_value = cotangents
    data = program.data(parameters)
    if grad_x.any() or grad_z.any():
        u_x, u_z, singular = _solve(pattern, data, point, grad_x, grad_z)
    else:
        u_x, u_z, singular = grad_x, grad_z, np.zeros(len(x), bool)
    gradients = []
    twice = np.where(program.P_rows == program.P_columns, 0.5, 1.0)
    first, second = program.P_rows, program.P_columns
    row, column = program.A_rows, program.A_columns
    for k in range(grad_x.shape[-1]):
        ux, uz, gv = u_x[..., k], u_z[..., k], grad_value[:, k, None]
        moved = gv * x - ux  # x̄ of the value and of the system enter P and A alike
        gradient = Data(
            twice * (moved[:, first] * x[:, second] - x[:, first] * ux[:, second]),
            moved,
            grad_value[:, k],
            moved[:, column] * z[:, row] - uz[:, row] * x[:, column],
            uz - gv * z,
        )
        gradients.append(program.pull_back(gradient))
    return np.stack(gradients, 1), singular


def push_forward(
    pattern: Pattern,
    parameters: Array,
    point: tuple[Array, Array, Array],
    tangents: Array,
) -> tuple[Array, Array, Array, Flags]:
    """Changes of x, z and the optimal value, and where the system is singular.

    Args:
        pattern: of the cone program.
        parameters: θ, ``(batch, p)``.
        point: as in :func:`pull_back`.
        tangents: of θ, ``(batch, p, k)``.

    Returns:
        Changes ``(batch, n, k)``, ``(batch, m, k)``, ``(batch, k)``, and flags ``(batch,)``.
    """
    program = pattern.program
    x, z, _ = point
    data = program.data(parameters)
    right_x, right_z, value = [], [], []
    for k in range(tangents.shape[-1]):
        change = program.data_change(tangents[..., k])
        Px, Ax = symmetric_product(program, change.P, x), constraint_product(program, change.A, x)
        right_x.append(-(Px + transposed_product(program, change.A, z) + change.q))
        right_z.append(change.b - Ax)
        value.append(((0.5 * Px + change.q) * x).sum(-1) + change.d + (z * (Ax - change.b)).sum(-1))
    right = np.stack(right_x, -1), np.stack(right_z, -1)
    dx, dz, singular = _solve(pattern, data, point, *right)
    return dx, dz, np.stack(value, -1), singular


def _solve(
    pattern: Pattern,
    data: Data,
    point: tuple[Array, Array, Array],
    right_x: Array,
    right_z: Array,
) -> tuple[Array, Array, Flags]:
    """(r_x, r_z) ↦ (dx, dz), by way of the units in which the system is well scaled.

    There, r_x̃ = γ C r_x and r_z̃ = R⁻¹r_z, and the map stays symmetric.
    """
    scaling = Scaling.of(pattern, data)
    variable, slack = scaling.variable[..., None], scaling.slack[..., None]
    gamma = scaling.objective[..., None]
    system = ConeSystem(pattern, scaling.apply(pattern, data), *scaling.enter(*point))
    dx, dz, singular = system.solve(gamma * variable * right_x, right_z / slack)
    return variable * dx, dz / (gamma * slack), singular
