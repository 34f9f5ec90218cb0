"""What is called infeasible is infeasible, and the other way round."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

import ddn
from ddn.quadratic.feasibility import are_infeasible
from tests.ddn.quadratic.programs import random_program


def highs_says_infeasible(program) -> bool:
    parts = {name: value.numpy() for name, value in program.items()}
    n = parts["q"].shape[0]
    bounds = np.stack(
        [parts.get("lower", np.full(n, -np.inf)), parts.get("upper", np.full(n, np.inf))], -1
    )
    found = scipy.optimize.linprog(
        np.zeros(n),
        parts.get("G"),
        parts.get("h"),
        parts.get("A"),
        parts.get("b"),
        bounds=bounds,
        method="highs",
    )
    return found.status == 2


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 5),
    p=st.integers(0, 2),
    k=st.integers(0, 8),
    bounds=st.booleans(),
    shift=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_as_highs_says(seed, n, p, k, bounds, shift):
    program = random_program((), n, p, k, bounds, seed)
    if k:
        program["h"] = program["h"] - shift
    status = ddn.nodes.QuadraticProgram(on_failure="nan").solution(**program).status
    expected = highs_says_infeasible(program)
    assert (int(status) == ddn.Status.INFEASIBLE) == expected


@given(seed=st.integers(0, 2**32 - 1), exponent=st.sampled_from([-8, -6, -4, -2]))
def test_nearly_dependent_rows_are_never_called_infeasible(seed, exponent):
    generator = torch.Generator().manual_seed(seed)
    row, other, inside = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    A = torch.stack([row, row + 10.0**exponent * other])
    data = ddn.QuadraticData(torch.eye(4).double(), inside, A=A, b=A @ inside)
    assert not bool(are_infeasible(data, 1).any())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bounds_that_exclude_each_other(dtype):
    one = torch.ones(2, 3, dtype=dtype)
    upper = one.clone()
    upper[1, 2] = 0.5
    data = ddn.QuadraticData(torch.eye(3, dtype=dtype), one, lower=one, upper=upper)
    assert are_infeasible(data, 2).tolist() == [False, True]
