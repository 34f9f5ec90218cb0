"""Cone programs in units in which all their numbers are of the order of one.

With x = C x̃, s = R s̃ and the objective times γ, where C and R are positive and diagonal and R is
constant within a cone, the cone program

    argmin ½ xᵀP x + qᵀx   subject to   A x + s = b,  s ∈ K

becomes one with P̃ = γ C P C, q̃ = γ C q, Ã = R⁻¹A C, b̃ = R⁻¹b, of the same cones; z = R⁻¹z̃/γ. Everything
that is decided by size (when a solver stops, which constraints bind, what is singular) is decided
in these units, so that the units of the user do not matter. (Ruiz 2001; O'Donoghue et al. 2016, §5.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddn.conic.canonical import Data
from ddn.conic.pattern import Pattern

__all__ = ["Scaling"]

Array = NDArray[np.float64]

_SWEEPS = 10
# Rows and columns whose largest entries are within this factor of one are balanced.
_BALANCED = 2.0


@dataclass(frozen=True)
class Scaling:
    """Units of a batch of cone programs.

    Attributes:
        variable: C, ``(batch, n)``.
        slack: R, ``(batch, m)``.
        objective: γ, ``(batch, 1)``.
    """

    variable: Array
    slack: Array
    objective: Array

    @classmethod
    def of(cls, pattern: Pattern, data: Data) -> Scaling:
        """Units in which rows and columns of P and A, and q and b, have largest entries near one."""
        program = pattern.program
        batch = len(data.q)
        variable = np.ones((batch, program.num_variables))
        row = np.ones((batch, program.num_rows))
        P, A = np.abs(data.P), np.abs(data.A)
        for _ in range(_SWEEPS):
            # P counts relative to the rest of the objective: its own unit says nothing.
            size = np.maximum(_largest(P), _largest(data.q * variable))
            relative = P / np.where(size > 0, size, 1.0)
            columns = pattern.column_maxima(relative, A)
            rows = pattern.cone_maxima(A)
            column_step, row_step = (1 / np.sqrt(np.where(m > 0, m, 1.0)) for m in (columns, rows))
            spread = max(np.abs(np.log(step)).max(initial=0.0) for step in (column_step, row_step))
            if spread < np.log(_BALANCED) / 2:
                break
            variable, row = variable * column_step, row * row_step
            P = P * column_step[:, program.P_rows] * column_step[:, program.P_columns]
            A = A * column_step[:, program.A_columns] * row_step[:, program.A_rows]
        # One more factor for x and s together: cones do not change under it.
        quadratic, linear = _largest(P), _largest(data.q * variable)
        bound = _largest(data.b * row)
        balance = linear / np.where(quadratic > 0, quadratic, 1.0)
        balance = np.where((quadratic > 0) & (balance > 0), balance, 1.0)
        beta = np.where(bound > 0, bound, balance)
        size = np.maximum(beta**2 * quadratic, beta * linear)
        return cls(beta * variable, beta / row, 1 / np.where(size > 0, size, 1.0))

    def apply(self, pattern: Pattern, data: Data) -> Data:
        """The numbers in these units."""
        program, C, R = pattern.program, self.variable, self.slack
        return Data(
            self.objective * data.P * C[:, program.P_rows] * C[:, program.P_columns],
            self.objective * data.q * C,
            self.objective[:, 0] * data.d,
            data.A * C[:, program.A_columns] / R[:, program.A_rows],
            data.b / R,
        )

    def enter(self, x: Array, z: Array, s: Array) -> tuple[Array, Array, Array]:
        """x̃, z̃, s̃."""
        return x / self.variable, self.objective * self.slack * z, s / self.slack

    def leave(self, x: Array, z: Array, s: Array) -> tuple[Array, Array, Array]:
        """x, z, s."""
        return x * self.variable, z / (self.objective * self.slack), s * self.slack


def _largest(numbers: Array) -> Array:
    return np.asarray(np.abs(numbers).max(-1, initial=0.0, keepdims=True))
