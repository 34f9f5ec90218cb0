"""Warm starts: the same solution, in fewer iterations, whatever the previous one was."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.errors import ShapeError
from tests.ddn.problems import Entropy
from tests.ddn.quadratic.programs import random_program


class Ball(ddn.DeclarativeNode):
    """argmin ‖y − x‖⁴ + ½ ‖y − x‖² s.t. ‖y‖² ≤ 1, y ≥ 0, y_1 = 2 y_2."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        distance = (y - x).square().sum()
        return distance.square() + distance / 2

    def equality(self, x, y):
        return y[:1] - 2 * y[1:2]

    def inequality(self, x, y):
        return (y.square().sum() - 1).unsqueeze(0)

    def bounds(self, x):
        return 0, None


def sequence(node, inputs, change, steps=10):
    """Iterations of cold and of warm starts along a slowly changing sequence, and the largest difference."""
    cold, warm, difference = [], [], 0.0
    previous = node.solution(*inputs)
    for step in range(1, steps + 1):
        moved = [x + step * d for x, d in zip(inputs, change, strict=True)]
        exact = node.solution(*moved)
        previous = node.solution(*moved, warm_start=previous)
        cold.append(exact.iterations.double().mean())
        warm.append(previous.iterations.double().mean())
        difference = max(difference, float((exact.y - previous.y).abs().max()))
    return sum(cold), sum(warm), difference


@pytest.mark.parametrize("solver", [ddn.solvers.DAQP(), ddn.solvers.InteriorPoint()], ids=repr)
def test_a_sequence_of_quadratic_programs_needs_half_of_the_iterations(solver, tolerance):
    program = random_program((16,), 20, 5, 30, seed=1)
    inputs = list(program.values())
    change = [torch.zeros_like(value) for value in inputs]
    change[1] = 0.02 * torch.randn_like(inputs[1])
    node = ddn.nodes.QuadraticProgram(solver=solver)
    cold, warm, difference = sequence(node, inputs, change)
    assert warm <= 0.5 * cold
    assert difference <= tolerance.value


@pytest.mark.parametrize(
    ("node", "size"), [(Ball(), 6), (Entropy(), 6)], ids=["InteriorPoint", "Newton"]
)
def test_a_sequence_of_general_problems(node, size, tolerance):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, size, generator=generator, dtype=torch.float64)
    change = 0.01 * torch.randn(8, size, generator=generator, dtype=torch.float64)
    cold, warm, difference = sequence(node, (x,), (change,))
    assert warm <= 0.75 * cold
    assert difference <= tolerance.solver


def test_failed_problems_start_cold(tolerance):
    node = Entropy(on_failure="nan")
    x = torch.randn(3, 4, dtype=torch.float64)
    broken = x.clone()
    broken[1, 0] = torch.nan
    previous = node.solution(broken)
    again = node.solution(x, warm_start=previous)
    torch.testing.assert_close(
        again.y, torch.softmax(x, -1), rtol=tolerance.solver, atol=tolerance.solver
    )


def test_a_solution_block_alone_will_do(tolerance):
    x = torch.randn(3, 4, dtype=torch.float64)
    for previous in (torch.softmax(x, -1), torch.softmax(x[0], -1), (torch.softmax(x, -1),)):
        y = Entropy()(x, warm_start=previous)
        torch.testing.assert_close(
            y, torch.softmax(x, -1), rtol=tolerance.solver, atol=tolerance.solver
        )


def test_gradients_do_not_see_the_start(tolerance):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    previous = Entropy().solution(x)
    warm = Entropy()(x, warm_start=previous)
    cotangent = torch.randn(3, 4, dtype=torch.float64)
    (found,) = torch.autograd.grad(warm, x, cotangent)
    (expected,) = torch.autograd.grad(torch.softmax(x, -1), x, cotangent)
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_under_transforms_the_start_is_a_constant(tolerance):
    x = torch.randn(3, 4, dtype=torch.float64)
    previous = Entropy().solution(x)
    found = torch.func.jacrev(lambda x: Entropy()(x, warm_start=previous))(x)
    expected = torch.func.jacrev(lambda x: torch.softmax(x, -1))(x)
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)
    with pytest.raises(TypeError, match=r"mapped by torch\.func\.vmap"):
        torch.func.vmap(lambda x, y: Entropy()(x, warm_start=y))(x, previous.y)


def test_what_is_no_solution_of_the_node_is_refused():
    x = torch.randn(3, 4, dtype=torch.float64)
    with pytest.raises(ShapeError, match="core shape"):
        Entropy()(x, warm_start=torch.zeros(3, 5, dtype=torch.float64))
    with pytest.raises(ShapeError, match="batch shape"):
        Entropy()(x, warm_start=torch.zeros(2, 4, dtype=torch.float64))
    with pytest.raises(TypeError, match="returned before"):
        Entropy()(x, warm_start=3.0)


def test_a_solver_without_warm_starts_says_so():
    class Fixed:
        def solve(self, problem, operands):
            raise AssertionError

    with pytest.raises(TypeError, match="takes no warm start"):
        Entropy(solver=Fixed())(torch.zeros(3), warm_start=torch.zeros(3))


def test_a_closed_form_has_no_use_for_it():
    x = torch.randn(3, 4, dtype=torch.float64)
    y = ddn.nodes.project_simplex_entropic(x)
    node = ddn.nodes.EntropicSimplexProjection()
    assert torch.equal(node(x, warm_start=torch.zeros_like(x)), y)
