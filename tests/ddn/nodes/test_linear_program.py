"""Linear programs, with and without smoothing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import ddn
from ddn.errors import SignatureError, SolveError
from ddn.nodes import (
    EntropicSmoothing,
    LinearProgram,
    QuadraticProgram,
    QuadraticSmoothing,
    solve_linear_program,
)
from tests.tolerances import TOLERANCES


def polytope(batch, n, p, k, seed):
    """A bounded feasible set in general position: c, A, b, G, h, lower, upper."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    inside = normal(n)
    A, G = normal(p, n), normal(k, n)
    b = (A @ inside.unsqueeze(-1)).squeeze(-1)
    h = (G @ inside.unsqueeze(-1)).squeeze(-1) + normal(k).abs()
    return normal(n), A, b, G, h, inside - 1 - normal(n).abs(), inside + 1 + normal(n).abs()


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 6),
    k=st.integers(1, 5),
    solver=st.sampled_from([None, ddn.solvers.PIQP(), ddn.solvers.InteriorPoint()]),
)
def test_vertices_are_those_of_highs(seed, n, k, solver):
    c, A, b, G, h, lower, upper = polytope((2,), n, 1, k, seed)
    y = LinearProgram(solver=solver)(c, A, b, G, h, lower=lower, upper=upper)
    limit = TOLERANCES[torch.float64].solver
    for index in range(2):
        parts = [part[index].numpy() for part in (c, G, h, A, b, lower, upper)]
        found = scipy.optimize.linprog(*parts[:5], bounds=np.stack(parts[5:], -1), method="highs")
        torch.testing.assert_close(y[index], torch.from_numpy(found.x), rtol=limit, atol=limit)


def test_a_vertex_moves_with_its_constraints_only(tolerance):
    c, A, b, G, h, lower, upper = (
        value.requires_grad_() for value in polytope((2,), 4, 1, 3, seed=1)
    )

    def solution(c, A, b, G, h, lower, upper):
        return LinearProgram()(c, A, b, G, h, lower=lower, upper=upper)

    assert gradcheck(solution, (c, A, b, G, h, lower, upper))
    y = solution(c, A, b, G, h, lower, upper)
    (gradient,) = torch.autograd.grad(y.sum(), c)
    assert (gradient.abs() <= tolerance.value).all()


@pytest.mark.parametrize("smoothing", [QuadraticSmoothing(0.3), EntropicSmoothing(0.2)], ids=repr)
def test_smoothed_programs_have_derivatives_of_every_order(smoothing):
    generator = torch.Generator().manual_seed(2)
    c = torch.randn(2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    G = torch.randn(2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(1, 4, dtype=torch.float64)
    h = torch.full((2,), 0.4, dtype=torch.float64, requires_grad=True)

    def solution(c, G, h):
        return LinearProgram(smoothing)(c, ones, ones[0, :1], G, h)

    assert gradcheck(solution, (c, G, h))
    assert gradgradcheck(solution, (c, G, h))


def test_entropic_smoothing_on_the_simplex_is_softmax(tolerance):
    c = torch.randn(3, 5, dtype=torch.float64)
    ones = torch.ones(1, 5, dtype=torch.float64)
    y = solve_linear_program(c, ones, ones[0, :1], smoothing=EntropicSmoothing(0.5))
    torch.testing.assert_close(
        y, torch.softmax(-c / 0.5, -1), rtol=tolerance.solver, atol=tolerance.solver
    )


def test_quadratic_smoothing_is_a_quadratic_program(tolerance):
    c, A, b, G, h, lower, upper = polytope((3,), 5, 1, 4, seed=3)
    rest = {"lower": lower, "upper": upper}
    y = LinearProgram(QuadraticSmoothing(0.1))(c, A, b, G, h, **rest)
    identity = 0.1 * torch.eye(5, dtype=torch.float64)
    expected = QuadraticProgram()(identity, c, A, b, G, h, **rest)
    torch.testing.assert_close(y, expected, rtol=tolerance.value, atol=tolerance.value)


def test_little_quadratic_smoothing_keeps_the_vertex(tolerance):
    c, A, b, G, h, lower, upper = polytope((3,), 5, 1, 4, seed=4)
    rest = {"lower": lower, "upper": upper}
    vertex = LinearProgram()(c, A, b, G, h, **rest)
    smoothed = LinearProgram(QuadraticSmoothing(1e-6))(c, A, b, G, h, **rest)
    torch.testing.assert_close(smoothed, vertex, rtol=tolerance.solver, atol=tolerance.solver)


def test_the_shared_contract():
    c, A, b, G, h, *_ = polytope((2,), 3, 1, 2, seed=5)
    ddn.testing.check_node(LinearProgram(QuadraticSmoothing(0.5)), c, A, b, G, h)


def test_unbounded_and_infeasible_programs_are_flagged():
    c = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    G = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, 1, 2).clone()
    h = torch.tensor([[5.0], [5.0], [-1.0]], dtype=torch.float64)
    G[1, 0, 0] = -1.0  # −y_1 ≤ 5: y_1 may grow for ever
    zeros = torch.zeros(2, dtype=torch.float64)
    solution = LinearProgram(on_failure="nan").solution(c, G=G, h=h, lower=zeros)
    names = [ddn.Status(code).name for code in solution.status.tolist()]
    assert names == ["CONVERGED", "UNBOUNDED", "INFEASIBLE"]
    with pytest.raises(SolveError, match="UNBOUNDED"):
        LinearProgram()(c, G=G, h=h, lower=zeros)


def test_a_smoothing_can_be_exchanged(tolerance):
    c = torch.randn(3, 4, dtype=torch.float64)
    ones = torch.ones(1, 4, dtype=torch.float64)
    node = LinearProgram(EntropicSmoothing(1.0))
    node(c, ones, ones[0, :1])
    node.smoothing = EntropicSmoothing(2.0)
    torch.testing.assert_close(
        node(c, ones, ones[0, :1]),
        torch.softmax(-c / 2, -1),
        rtol=tolerance.solver,
        atol=tolerance.solver,
    )


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="weight"):
        EntropicSmoothing(0.0)
    with pytest.raises(TypeError, match="smoothing is an object"):
        LinearProgram("entropic")
    with pytest.raises(SignatureError, match="G and h belong together"):
        LinearProgram()(torch.zeros(2), G=torch.zeros(1, 2))
