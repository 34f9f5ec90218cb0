"""Projections onto cones and their derivatives, against CVXPY and finite differences."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddn.conic.cones import Block, Cone, Kind
from ddn.conic.moreau import decompose
from ddn.conic.projection import projection_derivative

CONES = {
    "zero": Cone(zero=3),
    "nonnegative": Cone(nonnegative=4),
    "second_order": Cone(second_order=(4,)),
    "second_order_two": Cone(second_order=(2,)),
    "semidefinite": Cone(semidefinite=(3,)),
    "exponential": Cone(exponential=1),
    "power": Cone(power=((0.3, 0.7),)),
    "power_half": Cone(power=((0.5, 0.5),)),
    "general_power": Cone(power=((0.2, 0.3, 0.5),)),
}


def block_of(name: str) -> Block:
    (block,) = CONES[name].blocks()
    return block


def project(block: Block, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s and z of one cone, or of rows of the zero and the nonnegative cone."""
    ratio = np.zeros(block.count)
    for _ in range(3):  # from far away Newton's method starts again where it has got to
        s, z = decompose(block, w.reshape(block.count, block.size), ratio)
        if block.kind is Kind.EXPONENTIAL:
            ratio = s[:, 0] / np.where(s[:, 1] > 0, s[:, 1], 1.0)
    return s.reshape(-1), z.reshape(-1)


def membership(block: Block, s):
    if block.kind is Kind.ZERO:
        return [s == 0]
    if block.kind is Kind.NONNEGATIVE:
        return [s >= 0]
    if block.kind is Kind.SECOND_ORDER:
        return [cp.SOC(s[0], s[1:])]
    if block.kind is Kind.SEMIDEFINITE:
        a, b, c, d, e, f = (s[i] for i in range(6))
        h = np.sqrt(0.5)
        return [cp.bmat([[a, h * b, h * d], [h * b, c, h * e], [h * d, h * e, f]]) >> 0]
    if block.kind is Kind.EXPONENTIAL:
        return [cp.ExpCone(s[0], s[1], s[2])]
    return [cp.PowConeND(s[:-1], s[-1], np.array(block.exponents[0]))]


def spread(kind: str, seed: int) -> np.ndarray:
    block = block_of(kind)
    w = np.random.default_rng(seed).standard_normal(block.num_rows)
    return w * np.random.default_rng(seed + 1).choice([0.3, 1.0, 3.0])


@pytest.mark.parametrize("kind", CONES)
@pytest.mark.parametrize("seed", range(6))
def test_projection_agrees_with_cvxpy(kind, seed):
    block, w = block_of(kind), spread(kind, seed)
    s, _ = project(block, w)
    variable = cp.Variable(len(w))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(variable - w)), membership(block, variable))
    problem.solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(s, variable.value, atol=1e-4)


@given(kind=st.sampled_from(sorted(CONES)), seed=st.integers(0, 10**6))
def test_decomposition_is_complementary(kind, seed):
    block, w = block_of(kind), spread(kind, seed)
    s, z = project(block, w)
    size = np.abs(w).max()
    np.testing.assert_allclose(s - z, w, atol=1e-9 * size)
    assert abs(s @ z) <= 1e-9 * size**2
    # Both are where they belong: projecting them changes nothing.
    np.testing.assert_allclose(project(block, s)[0], s, atol=1e-7 * size)
    np.testing.assert_allclose(project(block, -z)[1], z, atol=1e-7 * size)


@given(kind=st.sampled_from(sorted(CONES)), seed=st.integers(0, 10**6))
def test_derivative_is_that_of_the_projection(kind, seed):
    block, w = block_of(kind), spread(kind, seed)
    s, z = project(block, w)
    shape = (block.count, block.size)
    basis, delta = projection_derivative(block, s.reshape(shape), z.reshape(shape))
    if basis is None:
        derivative = np.diag(delta.reshape(-1))
    else:
        assert block.count == 1
        derivative = basis[0] * delta[0] @ basis[0].T
        np.testing.assert_allclose(basis[0].T @ basis[0], np.eye(block.size), atol=1e-12)
    assert ((delta >= 0) & (delta <= 1)).all()
    step = 1e-6

    def difference(h):
        moves = np.eye(len(w)) * h
        return np.stack(
            [(project(block, w + e)[0] - project(block, w - e)[0]) / (2 * h) for e in moves], 1
        )

    numeric, finer = difference(step), difference(step / 2)
    if np.abs(numeric - finer).max() < 1e-5:  # not at a kink, nor next to one
        np.testing.assert_allclose(derivative, numeric, atol=1e-4)


@pytest.mark.parametrize(
    ("w", "diagonal"),
    [
        ((-1.0, -2.0, 3.0), (1, 0, 1)),  # on the face y = 0
        ((-1.0, -2.0, -3.0), (1, 0, 0)),  # on its edge
        ((-5.0, 1.0, 3.0), (1, 1, 1)),  # inside
        ((5.0, -30.0, -3.0), None),
        ((0.5, -1.0, -3.0), (0, 0, 0)),  # at the apex
    ],
)
def test_pieces_of_the_exponential_cone(w, diagonal):
    block = block_of("exponential")
    s, z = project(block, np.array(w))
    basis, delta = projection_derivative(block, s[None], z[None])
    derivative = basis[0] * delta[0] @ basis[0].T
    if diagonal is not None:
        np.testing.assert_allclose(derivative, np.diag(diagonal), atol=1e-12)
    np.testing.assert_allclose(s - z, w, atol=1e-10)


@pytest.mark.parametrize(("exponents", "last"), [((0.3, 0.7), 0), ((0.7, 0.3), 1)])
def test_power_cone_where_its_last_coordinate_vanishes(exponents, last):
    """At s = (1, 0, 0), z = (0, 1, 0) the last coordinate moves freely or not at all, by the exponent of
    u₂."""
    block = Block(Kind.POWER, 0, 1, 3, 0, (exponents,))
    basis, delta = projection_derivative(
        block, np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    )
    derivative = basis[0] * delta[0] @ basis[0].T
    np.testing.assert_allclose(derivative, np.diag([1, 0, last]), atol=1e-12)


def test_blocks_cover_all_rows_in_order():
    cone = Cone(2, 3, (3, 3, 4), (2, 3), 2, ((0.5, 0.5), (0.2, 0.3, 0.5)))
    blocks = list(cone.blocks())
    stops = [block.rows.stop for block in blocks]
    assert [block.rows.start for block in blocks] == [0, *stops[:-1]]
    assert stops[-1] == 2 + 3 + 10 + 3 + 6 + 6 + 3 + 4
    assert [block.count for block in blocks] == [2, 3, 2, 1, 1, 1, 2, 1, 1]
