"""Quadratic programs: contract, property, known answers, every combination of constraints, bad input."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import ddn
from ddn.errors import DtypeError, ShapeError, SignatureError, SolveError
from ddn.nodes import QuadraticProgram, solve_quadratic_program
from tests.ddn.quadratic.programs import Program, random_program, reference
from tests.tolerances import TOLERANCES

SOLVERS = [
    None,
    ddn.solvers.DAQP(),
    ddn.solvers.DAQP(workers=2),
    ddn.solvers.PIQP(),
    ddn.solvers.InteriorPoint(),
]
KINDS = [
    dict(zip(("p", "k", "bounds"), kind, strict=True))
    for kind in product((0, 2), (0, 4), (False, True))
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
solvers = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


def differentiable(program: Program) -> list[torch.Tensor]:
    return [value.clone().requires_grad_() for value in program.values()]


def solve(node: QuadraticProgram, names: list[str]):
    return lambda *values: node(**dict(zip(names, values, strict=True)))


@kinds
@solvers
def test_solution_and_multipliers_are_those_of_clarabel(kind, solver, tolerance):
    program = random_program((3,), 6, seed=1, **kind)
    solution = QuadraticProgram(solver=solver).solution(**program)
    parts = [solution.equality_multipliers, solution.inequality_multipliers]
    parts += [solution.lower_multipliers, solution.upper_multipliers]
    ours = [part for part in parts if part is not None and part.shape[-1]]
    assert solution.converged.all()
    for index in range(3):
        y, duals = reference(**{name: value[index].numpy() for name, value in program.items()})
        torch.testing.assert_close(
            solution.y[index], torch.from_numpy(y), rtol=tolerance.solver, atol=tolerance.solver
        )
        for mine, theirs in zip(ours, duals, strict=True):
            torch.testing.assert_close(
                mine[index], torch.as_tensor(theirs), rtol=tolerance.solver, atol=tolerance.solver
            )


@kinds
def test_derivatives_of_first_and_second_order(kind):
    program = random_program((2,), 4, seed=2, **kind)
    names, values = list(program), differentiable(program)
    node = QuadraticProgram()
    assert gradcheck(solve(node, names), values)
    assert gradgradcheck(solve(node, names), values)


@kinds
def test_multipliers_have_gradients(kind):
    program = random_program((2,), 4, seed=3, **kind)
    names, values = list(program), differentiable(program)

    def multipliers(*values):
        found = QuadraticProgram().solution(**dict(zip(names, values, strict=True)))
        parts = (found.equality_multipliers, found.inequality_multipliers, found.lower_multipliers)
        return tuple(part for part in parts if part is not None and part.shape[-1])

    if multipliers(*values):
        assert gradcheck(multipliers, values)


@kinds
def test_the_closed_form_agrees_with_the_general_engine(kind, tolerance):
    program = random_program((3,), 5, seed=4, **kind)
    values = differentiable(program)
    general = ddn.ImplicitGradient(linear_solver=ddn.kkt.Dense())
    cotangent = torch.randn(3, 5, dtype=torch.float64)
    found = []
    for gradient in (None, general):
        y = solve(QuadraticProgram(gradient=gradient), list(program))(*values)
        found.append(torch.autograd.grad(y, values, cotangent))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_shared_inputs_get_the_sum_of_all_gradients(tolerance):
    program = random_program((), 5, 2, 3, True, seed=5)
    batched = {name: value.expand(4, *value.shape) for name, value in program.items()}
    batched["q"] = program["q"] + torch.randn(4, 5, dtype=torch.float64)
    program["q"] = batched["q"]
    cotangent = torch.randn(4, 5, dtype=torch.float64)
    found = []
    for given_ in (program, batched):
        values = differentiable(given_)
        y = solve(QuadraticProgram(), list(given_))(*values)
        found.append(torch.autograd.grad(y, values, cotangent))
    for name, shared, each in zip(program, *found, strict=True):
        total = each if name == "q" else each.sum(0)
        torch.testing.assert_close(shared, total, rtol=tolerance.gradient, atol=tolerance.gradient)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 6),
    p=st.integers(0, 2),
    k=st.integers(0, 5),
    bounds=st.booleans(),
    batch=st.lists(st.integers(1, 3), max_size=2),
    scales=st.tuples(*[st.sampled_from([1e-6, 1.0, 1e6])] * 2),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_any_program_in_any_units(seed, n, p, k, bounds, batch, scales, dtype):
    program = random_program(tuple(batch), n, min(p, n - 1), k, bounds, seed, dtype)
    node, tolerance = QuadraticProgram(), TOLERANCES[dtype]
    y = node(**program)
    assert y.shape == (*batch, n)
    objective, length = scales  # y in other units, and the objective
    for name in program:
        factor = {"Q": objective / length**2, "q": objective / length, "A": 1 / length}
        program[name] = program[name] * factor.get(name, {"G": 1 / length}.get(name, 1.0))
    for name in ("lower", "upper"):
        if name in program:
            program[name] = program[name] * length
    scaled = node(**program)
    # The solution is known to the condition of Q, at most some hundreds here.
    limit = 100 * tolerance.solver
    torch.testing.assert_close(scaled / length, y, rtol=limit, atol=limit)


def test_simplex_projection_against_sorting(tolerance):
    x = torch.randn(7, 9, dtype=torch.float64)
    ordered = x.sort(-1, descending=True).values
    thresholds = (ordered.cumsum(-1) - 1) / torch.arange(1, 10)
    count = (ordered > thresholds).sum(-1, keepdim=True)
    expected = (x - thresholds.gather(-1, count - 1)).clamp_min(0)
    identity, ones = torch.eye(9, dtype=torch.float64), torch.ones(1, 9, dtype=torch.float64)
    zeros = torch.zeros(9, dtype=torch.float64)
    y = solve_quadratic_program(identity, -x, ones, ones[0, :1], lower=zeros)
    torch.testing.assert_close(y, expected, rtol=tolerance.value, atol=tolerance.value)


@solvers
def test_failed_elements_are_flagged_and_the_others_right(solver, tolerance):
    program = random_program((8,), 5, 2, 4, True, seed=6)
    expected = QuadraticProgram()(**program)
    program["G"][1, 0], program["h"][1, 0] = 0.0, -1.0  # 0 ≤ −1
    program["q"][2, 3] = torch.nan
    program["lower"][4, 2] = program["upper"][4, 2] + 1
    program["A"][6, 1], program["b"][6, 1] = program["A"][6, 0], program["b"][6, 0] + 1
    node = QuadraticProgram(solver=solver, on_failure="nan")
    solution = node.solution(**program)
    codes = {1: "INFEASIBLE", 2: "NOT_FINITE", 4: "INFEASIBLE", 6: "INFEASIBLE"}
    for index in range(8):
        name = codes.get(index, "CONVERGED")
        assert ddn.Status(int(solution.status[index])).name == name
        if index in codes:
            assert solution.y[index].isnan().all()
        else:
            torch.testing.assert_close(
                solution.y[index], expected[index], rtol=tolerance.solver, atol=tolerance.solver
            )
    with pytest.raises(SolveError, match="batch element"):
        QuadraticProgram(solver=solver)(**program)


@solvers
def test_an_unbounded_element_is_flagged(solver):
    program = random_program((3,), 4, 1, 2, seed=7)
    program["Q"][1] = 0
    node = QuadraticProgram(solver=solver, on_failure="nan")
    status = node.solution(**program).status.tolist()
    assert status == [ddn.Status.CONVERGED, ddn.Status.UNBOUNDED, ddn.Status.CONVERGED]


def test_gradients_of_failed_elements_stay_in_them():
    program = random_program((3,), 4, 1, 2, seed=8)
    program["q"][1, 0] = torch.nan
    values = differentiable(program)
    y = solve(QuadraticProgram(on_failure="nan"), list(program))(*values)
    gradients = torch.autograd.grad(y[[0, 2]].sum(), values)
    for gradient in gradients:
        assert gradient[[0, 2]].isfinite().all()
        assert (gradient[1] == 0).all()


@solvers
def test_semidefinite_objective(solver, tolerance):
    program = random_program((2,), 6, 2, 8, True, seed=9)
    program["Q"][:, 3:] = 0
    program["Q"][:, :, 3:] = 0
    solution = QuadraticProgram(solver=solver).solution(**program)
    for index in range(2):
        y, _ = reference(**{name: value[index].numpy() for name, value in program.items()})
        torch.testing.assert_close(
            solution.y[index], torch.from_numpy(y), rtol=tolerance.solver, atol=tolerance.solver
        )


def test_semidefinite_objective_has_gradients():
    program = random_program((2,), 5, 1, 4, True, seed=10)
    program["Q"][:, 2:] = 0
    program["Q"][:, :, 2:] = 0
    rest = {name: value for name, value in program.items() if name not in ("Q", "q")}

    def solution(q, b):
        return QuadraticProgram()(**{**rest, "Q": program["Q"], "q": q, "b": b})

    assert gradcheck(solution, (program["q"].requires_grad_(), program["b"].requires_grad_()))


def test_infinite_right_sides_are_no_constraints(tolerance):
    program = random_program((2,), 4, 1, 3, True, seed=11)
    loose = {name: value.clone() for name, value in program.items()}
    loose["h"][:, 1] = torch.inf
    loose["upper"][:, 2] = torch.inf
    rows = [0, 2]
    strict = {**loose, "G": loose["G"][:, rows], "h": loose["h"][:, rows]}
    strict["upper"] = loose["upper"].clamp_max(1e9)
    for solver in SOLVERS:
        node = QuadraticProgram(solver=solver)
        torch.testing.assert_close(
            node(**loose), node(**strict), rtol=tolerance.solver, atol=tolerance.solver
        )
    values = differentiable(loose)
    y = solve(QuadraticProgram(), list(loose))(*values)
    gradients = torch.autograd.grad(y.sum(), values)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_equal_bounds_fix_a_variable(tolerance):
    program = random_program((2,), 4, 1, 0, True, seed=12)
    program["upper"][:, 0] = program["lower"][:, 0]
    y = QuadraticProgram()(**program)
    torch.testing.assert_close(
        y[:, 0], program["lower"][:, 0], rtol=tolerance.value, atol=tolerance.value
    )


def test_transforms(tolerance):
    program = random_program((3,), 4, 1, 3, seed=13)
    node = QuadraticProgram()
    y = node(**program)
    mapped = torch.func.vmap(node)(*program.values())
    torch.testing.assert_close(mapped, y, rtol=tolerance.value, atol=tolerance.value)
    rest = list(program.values())[2:]

    def of_q(q):
        return node(program["Q"], q, *rest)

    forward, reverse = torch.func.jacfwd(of_q)(program["q"]), torch.func.jacrev(of_q)(program["q"])
    torch.testing.assert_close(forward, reverse, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_compiled(tolerance):
    program = random_program((3,), 4, 1, 3, seed=14)
    node = QuadraticProgram()
    values = differentiable(program)
    found = []
    for function in (node, torch.compile(node, fullgraph=True, backend="aot_eager")):
        y = function(*values)
        found.append((y, *torch.autograd.grad(y.square().sum(), values)))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(
            compiled, eager, rtol=tolerance.gradient, atol=tolerance.gradient
        )


def test_the_shared_contract():
    program = random_program((2,), 4, 1, 3, seed=15)
    ddn.testing.check_node(QuadraticProgram(), *program.values())


def test_one_half_without_the_other():
    program = random_program((), 3, 1, seed=16)
    del program["b"]
    with pytest.raises(SignatureError, match="A and b belong together"):
        QuadraticProgram()(**program)


def test_shapes_and_dtypes_are_checked():
    program = random_program((), 3, 1, seed=17)
    with pytest.raises(ShapeError, match="QuadraticProgram"):
        QuadraticProgram()(**{**program, "q": program["q"][:2]})
    with pytest.raises(DtypeError, match="QuadraticProgram"):
        QuadraticProgram()(**{**program, "q": program["q"].float()})


def test_an_option_that_changes_later_counts():
    program = random_program((), 3, seed=18)
    program["q"][0] = torch.nan
    node = QuadraticProgram(on_failure="nan")
    assert node(**program).isnan().all()
    node.on_failure = "raise"
    with pytest.raises(SolveError):
        node(**program)
