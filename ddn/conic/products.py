"""Products of the matrices of a batch of cone programs, stored by their entries, with vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddn.conic.canonical import ConeProgram

__all__ = ["constraint_product", "symmetric_product", "transposed_product"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def symmetric_product(program: ConeProgram, P: Array, x: Array) -> Array:
    """P x, ``(batch, n)``, from the entries of the upper triangle, ``(batch, entries)``."""
    rows, columns, size = program.P_rows, program.P_columns, program.num_variables
    if not len(rows):
        return np.zeros_like(x)
    above = rows != columns
    product = add_up(rows, P * x[:, columns], size)
    return product + add_up(columns[above], P[:, above] * x[:, rows[above]], size)


def constraint_product(program: ConeProgram, A: Array, x: Array) -> Array:
    """A x, ``(batch, m)``."""
    return add_up(program.A_rows, A * x[:, program.A_columns], program.num_rows)


def transposed_product(program: ConeProgram, A: Array, z: Array) -> Array:
    """Aᵀ z, ``(batch, n)``."""
    return add_up(program.A_columns, A * z[:, program.A_rows], program.num_variables)


def add_up(index: Index, numbers: Array, size: int) -> Array:
    """Sums ``(batch, size)`` of the numbers ``(batch, entries)`` that have the same index."""
    batch = len(numbers)
    place = (np.arange(batch)[:, None] * size + index).ravel()
    total: Array = np.bincount(place, numbers.ravel(), batch * size).astype(np.float64)
    return total.reshape(batch, size)
