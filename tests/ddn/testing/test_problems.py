"""The zoo is what it says it is: answers, derivatives, multipliers and flags of every problem."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from ddn.errors import SolveError
from ddn.solvers.base import as_blocks
from ddn.testing import check_node
from ddn.testing.problems import ZOO, by_name

REGULAR = [problem for problem in ZOO if problem.regular]
IRREGULAR = [problem for problem in ZOO if not problem.regular]
KNOWN = [problem for problem in ZOO if problem.solution is not None]
WITH_MULTIPLIERS = [problem for problem in ZOO if problem.multipliers is not None]

# What finite differences or another local minimum make impossible.
SKIPPED = {
    "badly_scaled_quadratic": [
        "gradient (finite differences, reverse and forward mode)",
        "second derivatives (finite differences, all modes)",
    ],
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def parameters_of(problem):
    return {name: p.detach() for name, p in problem.node().double().named_parameters()}


def is_constrained(problem):
    node = problem.node()
    return node.inequality is not None or node.bounds is not None


def test_size_of_the_zoo():
    assert len({problem.name for problem in ZOO}) == len(ZOO) >= 24
    assert len(REGULAR) >= 16
    assert sum(map(is_constrained, REGULAR)) >= 8
    assert list(ZOO) == REGULAR + IRREGULAR


def test_problems_are_found_by_name():
    for problem in ZOO:
        assert by_name(problem.name) is problem
        assert str(problem) == problem.name
    with pytest.raises(KeyError, match=r"'ridge_projection' is no problem .* maximum, .* ridge"):
        by_name("ridge_projection")


@pytest.mark.parametrize("problem", ZOO, ids=str)
def test_samples(problem, dtype):
    """Of the wanted size, batch shape and dtype; the same for the same seed; with a unit."""
    node = problem.node().to(dtype)
    for batch in ((), (3,), (2, 1)):
        inputs = problem.sample(generator(), size=3, batch=batch, scale=100.0, dtype=dtype)
        same = problem.sample(generator(), size=3, batch=batch, scale=100.0, dtype=dtype)
        assert all(map(torch.equal, inputs, same))
        assert all(x.dtype == dtype and bool(x.isfinite().all()) for x in inputs)
        bound = node.bind(*inputs)
        assert bound.problem.batch_shape(bound.operands) == batch
        other = problem.sample(generator(1), size=3, batch=batch, dtype=dtype)
        assert [x.shape for x in other] == [x.shape for x in inputs]
        assert not all(map(torch.equal, inputs, other))


@pytest.mark.parametrize("problem", KNOWN, ids=str)
def test_answers_have_the_shape_of_the_solution(problem):
    for batch in ((), (3,), (2, 1)):
        inputs = problem.sample(generator(), size=3, batch=batch)
        expected = [
            (*batch, *shape)
            for shape in problem.node().double().bind(*inputs).problem.output_shapes
        ]
        answer = problem.blocks(*inputs, **parameters_of(problem))
        assert [tuple(block.shape) for block in answer] == expected
        if problem.length is not None:
            assert problem.length(*inputs).shape == batch


@pytest.mark.parametrize("problem", REGULAR, ids=str)
def test_known_derivatives_against_finite_differences(problem):
    """Along changes relative to the inputs, which need no step of their own."""
    inputs = problem.sample(generator(), size=3)
    parameters = parameters_of(problem)
    values = (*inputs, *parameters.values())

    def answer(*changes):
        moved = [x * (1 + change) for x, change in zip(values, changes, strict=True)]
        state = dict(zip(parameters, moved[len(inputs) :], strict=True))
        return problem.blocks(*moved[: len(inputs)], **state)

    at = tuple(torch.zeros_like(value, requires_grad=True) for value in values)
    gradcheck(answer, at, atol=1e-5, rtol=1e-5, check_forward_ad=True)
    gradgradcheck(answer, at, atol=1e-4, rtol=1e-4)


def test_the_known_jacobian():
    problem = by_name("balance")
    inputs = problem.sample(generator(), size=3)
    (du_dx, du_dc), (dv_dx, dv_dc) = problem.jacobian(*inputs)
    third = torch.full((3, 3), 0.25, dtype=torch.float64)
    torch.testing.assert_close(du_dx, torch.eye(3, dtype=torch.float64) - third)
    torch.testing.assert_close(du_dc, third[0])
    torch.testing.assert_close(dv_dx, third[0])
    torch.testing.assert_close(dv_dc, 3 * third[0, 0])


def test_no_answer_where_there_is_none():
    with pytest.raises(ValueError, match="flat_valley has no solution, or more than one"):
        by_name("flat_valley").blocks()


@pytest.mark.parametrize("name", ["learned_floor", "balance", "quadratic"])
def test_the_known_answer_as_a_solver(name, device, dtype, tolerance):
    """With parameters, with blocks, with an input that the batch shares."""
    problem = by_name(name)
    inputs = problem.sample(generator(), size=3, batch=(2, 3), dtype=dtype)
    inputs = [x.to(device) for x in inputs]
    node = problem.node(solver=problem.solver()).to(device, dtype)
    state = {key: value.detach() for key, value in node.named_parameters()}
    solution = node.solution(*inputs)
    for found, known in zip(as_blocks(solution.y), problem.blocks(*inputs, **state), strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, known, rtol=tolerance.value, atol=tolerance.value)
    assert not solution.iterations.any()


@pytest.mark.parametrize("problem", REGULAR, ids=str)
def test_check_node(problem):
    """With the known answer as the solver: finite differences would solve a thousand problems."""
    inputs = problem.sample(generator(), size=2)
    check_node(problem.node(solver=problem.solver()), *inputs, skip=SKIPPED.get(problem.name, ()))


@pytest.mark.parametrize("problem", WITH_MULTIPLIERS, ids=str)
@pytest.mark.parametrize("size", [1, 4])
def test_multipliers(problem, size, device, dtype, tolerance):
    inputs = problem.sample(generator(), size=size, batch=(3,), dtype=dtype)
    inputs = tuple(x.to(device) for x in inputs)
    solution = problem.node().to(device, dtype).solution(*inputs)
    for name, expected in problem.multipliers(*inputs).items():
        actual = as_blocks(getattr(solution, name))
        for found, known in zip(actual, as_blocks(expected), strict=True):
            torch.testing.assert_close(
                found.detach(), known, rtol=tolerance.solver, atol=tolerance.solver
            )


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("problem", ZOO, ids=str)
def test_certificates(problem, size, device, dtype):
    """All flags of regular problems, and none of those that a problem is known to lack."""
    inputs = problem.sample(generator(size), size=size, batch=(3,), dtype=dtype)
    node = problem.node().to(device, dtype)
    certificate = node.certificate(*(x.to(device) for x in inputs))
    if problem.regular:
        assert certificate.trustworthy.all(), str(certificate)
    for flag in ("trustworthy", *problem.flags) if problem.flags else ():
        assert not getattr(certificate, flag).any(), f"{flag}\n{certificate}"


@pytest.mark.parametrize(
    "problem", [p for p in IRREGULAR if {"feasible", "optimal"} & set(p.flags)], ids=str
)
def test_unsolvable_problems_are_errors(problem, device, dtype):
    inputs = problem.sample(generator(), size=2, batch=(2,), dtype=dtype)
    with pytest.raises(SolveError) as caught:
        problem.node().to(device, dtype)(*(x.to(device) for x in inputs))
    assert caught.value.indices == [(0,), (1,)]
