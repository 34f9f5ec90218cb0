"""Programs on which sizes mislead: infinite rows, one large variable, float32, stationary points."""

from __future__ import annotations

import pickle

import pytest
import torch

import ddn
from ddn.errors import ShapeError
from ddn.nodes import LinearProgram, QuadraticProgram
from tests.ddn.quadratic.programs import random_program

DTYPES = [torch.float64, torch.float32]
SOLVERS = [None, ddn.solvers.DAQP(), ddn.solvers.PIQP(), ddn.solvers.InteriorPoint()]
solvers = pytest.mark.parametrize(
    "solver", SOLVERS, ids=lambda s: "default" if s is None else type(s).__name__
)


@pytest.mark.parametrize("size", [1.0, 1e2, 1e5])
def test_infinite_rows_are_never_active(size, tolerance):
    for seed in range(30):
        program = random_program((), 3, 0, 4, seed=seed)
        program = {name: value * size for name, value in program.items()}
        loose = {**program, "h": program["h"].clone()}
        loose["h"][0] = torch.inf
        strict = {**program, "G": program["G"][1:], "h": program["h"][1:]}
        y, expected = QuadraticProgram()(**loose), QuadraticProgram()(**strict)
        torch.testing.assert_close(y, expected, rtol=tolerance.solver, atol=tolerance.solver)


@solvers
def test_infinite_rows_are_passed_over_without_a_word(solver, capfd):
    program = random_program((3,), 4, 1, 3)
    program["h"][1, 0] = torch.inf
    QuadraticProgram(solver=solver)(**program)
    assert capfd.readouterr() == ("", "")


@solvers
@pytest.mark.parametrize("dtype", DTYPES)
def test_absent_bounds_are_never_active(dtype, solver):
    q = torch.tensor([-3e5, -2e5], dtype=dtype, requires_grad=True)
    lower = torch.zeros(2, dtype=dtype)
    y = QuadraticProgram(solver=solver)(torch.eye(2, dtype=dtype), q, lower=lower)
    (gradient,) = torch.autograd.grad(y.sum(), q)
    torch.testing.assert_close(gradient, -torch.ones_like(q))


@solvers
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("large", [1e3, 1e5])
def test_one_large_variable_hides_no_other(dtype, large, solver):
    q = torch.tensor([0.0, 2.0, -3.0], dtype=dtype)
    A = torch.tensor([[1.0, 0.0, 0.0]], dtype=dtype)
    rows = torch.eye(3, dtype=dtype)[1:]
    G, h = torch.cat([rows, -rows]), torch.ones(4, dtype=dtype)
    b = torch.tensor([large], dtype=dtype)
    y = QuadraticProgram(solver=solver)(torch.eye(3, dtype=dtype), q, A, b, G, h)
    torch.testing.assert_close(y, torch.tensor([large, -1.0, 1.0], dtype=dtype))


@solvers
@pytest.mark.parametrize("small", [1e-3, 1e-5, 1e-6])
def test_a_small_variable_is_found(small, solver):
    x = torch.tensor([1.0, small], dtype=torch.float64, requires_grad=True)
    identity, lower = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    y = QuadraticProgram(solver=solver)(identity, -x, lower=lower)
    torch.testing.assert_close(y, x)
    (gradient,) = torch.autograd.grad(y[1], x)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 1.0], dtype=torch.float64))


@solvers
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_box_is_solved_at_its_corner(dtype, solver):
    generator = torch.Generator().manual_seed(0)
    c = torch.randn(50, 30, generator=generator, dtype=torch.float64).to(dtype)
    zeros = torch.zeros(30, dtype=dtype)
    node = LinearProgram(solver=None if isinstance(solver, ddn.solvers.DAQP) else solver)
    y = node(c, lower=zeros, upper=zeros + 1)
    torch.testing.assert_close(y, (c < 0).to(dtype))


@solvers
def test_a_maximum_is_no_solution(solver):
    node = QuadraticProgram(solver=solver, on_failure="nan")
    Q = torch.tensor([[-1.0]], dtype=torch.float64)
    q = torch.zeros(1, dtype=torch.float64)
    y = node(Q, q, lower=q - 1, upper=q + 1)
    torch.testing.assert_close(y.abs(), q + 1)
    saddle = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    status = node.solution(saddle, torch.zeros(2, dtype=torch.float64)).status
    assert int(status) == ddn.Status.UNBOUNDED


def test_nodes_can_be_pickled_after_use():
    program = random_program((), 3, 1, 2, True, seed=1)
    node = QuadraticProgram()
    y = node(**program)
    assert torch.equal(pickle.loads(pickle.dumps(node))(**program), y)


def test_a_warm_start_with_other_rows_is_refused():
    program = random_program((), 3, 1, 2, seed=1)
    previous = QuadraticProgram().solution(**program)
    program["G"], program["h"] = program["G"][:1], program["h"][:1]
    with pytest.raises(ShapeError, match="multipliers, but the problem has"):
        QuadraticProgram()(**program, warm_start=previous)
