"""Quasi-definite systems: regular, singular with a solution, singular without."""

from __future__ import annotations

import numpy as np
import pytest

from ddn.conic.canonical import ConeProgram
from ddn.conic.cones import Cone
from ddn.conic.linear import QuasiDefinite, equilibrate
from ddn.conic.pattern import Pattern


def factorized(P, B, delta):
    """The matrix [P, Bᵀ; B, −δ], and its factorization."""
    n, m = P.shape[0], B.shape[0]
    columns, rows = (
        index.ravel() for index in np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    )
    upper = rows <= columns
    A_columns, A_rows = (i.ravel() for i in np.meshgrid(np.arange(n), np.arange(m), indexing="ij"))
    program = ConeProgram(
        n, m, Cone(nonnegative=m), rows[upper], columns[upper], A_rows, A_columns, None, np.zeros(0)
    )
    pattern = Pattern(program)
    matrix = np.block([[P, B.T], [B, -np.diag(delta)]])
    entries = matrix[np.ix_(pattern.order, pattern.order)][pattern.rows, pattern.columns]
    scaled, scale = equilibrate(pattern, entries[None])
    return matrix, pattern.order, QuasiDefinite(pattern, scaled[0], scale[0])


def solve(matrix, order, factors, right):
    found, singular = factors.solve(right[order])
    solution = np.empty_like(found)
    solution[order] = found
    return solution, singular


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_regular(size):
    generator = np.random.default_rng(0)
    root, B = generator.standard_normal((5, 5)), size * generator.standard_normal((4, 5))
    delta = np.array([0, 0.5, 1.0, 0])
    matrix, order, factors = factorized(root @ root.T, B, delta)
    right = generator.standard_normal((9, 2))
    solution, singular = solve(matrix, order, factors, right)
    assert not singular
    np.testing.assert_allclose(matrix @ solution, right, atol=1e-9)


def test_singular():
    """Two equal constraints: their multipliers are not unique, but x is."""
    B = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    matrix, order, factors = factorized(np.eye(3), B, np.zeros(2))
    consistent = np.array([[1.0], [2.0], [3.0], [4.0], [4.0]])
    solution, singular = solve(matrix, order, factors, consistent)
    assert not singular
    np.testing.assert_allclose(matrix @ solution, consistent, atol=1e-12)
    inconsistent = np.array([[0.0], [0.0], [0.0], [1.0], [2.0]])
    assert solve(matrix, order, factors, inconsistent)[1]


def test_nearly_singular_counts_as_singular():
    matrix, order, factors = factorized(np.diag([1.0, 1.0]), np.eye(2), np.array([0.0, 1.0]))
    assert not solve(matrix, order, factors, np.ones((4, 1)))[1]
    rotation = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-10]])
    matrix, order, factors = factorized(np.zeros((2, 2)), rotation, np.zeros(2))
    assert solve(matrix, order, factors, np.array([[0.0], [0.0], [1.0], [2.0]]))[1]
