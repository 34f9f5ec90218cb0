"""Variables and rows in very different units."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ddn
from ddn.nodes import QuadraticProgram
from ddn.quadratic.balance import Balanced
from tests.ddn.quadratic.programs import random_program
from tests.tolerances import TOLERANCES

SOLVERS = [ddn.solvers.DAQP(), ddn.solvers.PIQP(), ddn.solvers.InteriorPoint()]


def in_other_units(program, units, rows):
    """The same program for y / units, with rows of G multiplied."""
    changed = dict(program)
    changed["Q"] = units[:, None] * program["Q"] * units
    changed["q"] = units * program["q"]
    for name in ("A", "G"):
        if name in program:
            changed[name] = program[name] * units
    if "G" in program:
        changed["G"] = rows[:, None] * changed["G"]
        changed["h"] = rows * program["h"]
    for name in ("lower", "upper"):
        if name in program:
            changed[name] = program[name] / units
    return changed


def gradients(node, program, cotangent):
    values = {name: value.clone().requires_grad_() for name, value in program.items()}
    y = node(**values)
    return y.detach(), dict(
        zip(values, torch.autograd.grad(y, list(values.values()), cotangent), strict=True)
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    exponents=st.lists(st.sampled_from([-3.0, 0.0, 3.0]), min_size=5, max_size=5),
    bounds=st.booleans(),
    solver=st.sampled_from(SOLVERS),
)
def test_units_of_variables_and_rows_do_not_matter(seed, exponents, bounds, solver):
    program = random_program((), 5, 1, 4, bounds, seed)
    units = 10.0 ** torch.tensor(exponents, dtype=torch.float64)
    rows = units[:4].flip(0)
    node, tolerance = QuadraticProgram(solver=solver), TOLERANCES[torch.float64]
    cotangent = torch.randn(5, dtype=torch.float64)
    y, expected = gradients(node, program, cotangent)
    changed = in_other_units(program, units, rows)
    z, found = gradients(node, changed, cotangent * units)
    torch.testing.assert_close(z * units, y, rtol=tolerance.solver, atol=tolerance.solver)
    # The new q is units · q.
    size = 1 + float(expected["q"].abs().max())  # zero at a vertex
    torch.testing.assert_close(
        found["q"] * units, expected["q"], rtol=tolerance.solver, atol=tolerance.solver * size
    )
    torch.testing.assert_close(
        found["b"], expected["b"], rtol=tolerance.solver, atol=tolerance.solver * size
    )


def test_alike_variables_are_left_alone():
    program = random_program((3,), 4, 1, 2, seed=1)
    assert Balanced.of(ddn.QuadraticData(**program)).units is None


@pytest.mark.parametrize("flat", [False, True])
def test_balanced_variables_curve_alike_or_have_columns_of_one_size(flat):
    program = random_program((), 4, 2, seed=2)
    units = torch.tensor([1e-4, 1.0, 1e2, 1e4], dtype=torch.float64)
    changed = in_other_units(program, units, torch.ones(0, dtype=torch.float64))
    if flat:
        changed["Q"] = torch.zeros(4, 4, dtype=torch.float64)
        columns = Balanced.of(ddn.QuadraticData(**changed)).data.A.abs().amax(0)
        assert columns.max() <= 30 * columns.min()
    else:
        diagonal = Balanced.of(ddn.QuadraticData(**changed)).data.Q.diagonal()
        assert diagonal.max() <= 2 * diagonal.min()


def test_there_and_back(tolerance):
    program = random_program((2,), 4, 1, 2, True, seed=3)
    units = torch.tensor([1e-4, 1.0, 1e2, 1e4], dtype=torch.float64)
    program = {name: value[0] for name, value in program.items()}
    changed = in_other_units(program, units, torch.ones(2, dtype=torch.float64))
    balanced = Balanced.of(ddn.QuadraticData(**changed))
    y, multipliers = torch.randn(2, 4).double(), torch.randn(2, 3 + 8).double()
    again = balanced.to_original(*balanced.to_balanced(y, multipliers))
    for ours, expected in zip(again, (y, multipliers), strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance.value, atol=tolerance.value)
