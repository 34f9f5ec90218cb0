"""Solvers that stop early, lie, or leave a problem at a kink: what a node makes of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import cvxpy as cp
import numpy as np
import pytest
import torch

from ddn import Status
from ddn.conic import Clarabel, CvxpyNode
from ddn.conic.solve import ConeSolution
from ddn.errors import MissingDependencyError, SolveError, SolveWarning
from tests.ddn.conic.families import FAMILIES


@dataclass(frozen=True)
class Rough:
    """Clarabel, and nothing finer."""

    tolerance: float = 1e-8

    def solve(self, program, data):
        return Clarabel(self.tolerance).solve(program, data)

    def finer(self):
        return None


@dataclass(frozen=True)
class Liar(Rough):
    """Numbers out of thin air, said to be a solution."""

    size: float = 1.0

    def solve(self, program, data):
        generator = np.random.default_rng(0)
        found = super().solve(program, data)
        x, z, s = (
            self.size * generator.standard_normal(v.shape) for v in (found.x, found.z, found.s)
        )
        status = np.full_like(found.status, int(Status.CONVERGED))
        return ConeSolution(x, z, s, status, found.iterations)


@dataclass(frozen=True)
class Outsider(Rough):
    """Satisfies both equations, with a slack outside of its cone."""

    def solve(self, program, data):
        found = super().solve(program, data)
        x = found.x + 1e-3
        A = np.zeros((program.num_rows, program.num_variables))
        A[program.A_rows, program.A_columns] = data.A[0]
        return replace(found, x=x, s=data.b - x @ A.T)


def total_variation(n, **options):
    p, x = cp.Parameter(n), cp.Variable(n)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + 0.5 * cp.tv(x)))
    walk = (0.1 * torch.randn(n, dtype=torch.float64).cumsum(0)).requires_grad_()
    return CvxpyNode(problem, [p], [x], **options), walk


def averages(y, weight):
    """The exact gradient: averages over the pieces on which the solution is constant."""
    jumps = (y.detach().diff().abs() > 1e-9).long()
    piece = torch.cat([torch.zeros(1, dtype=torch.long), jumps.cumsum(0)])
    sums = torch.zeros(int(piece[-1]) + 1, dtype=y.dtype).index_add(0, piece, weight)
    return (sums / piece.bincount())[piece]


def test_many_pieces_of_total_variation():
    """At the default tolerance of the solver some pieces are taken for two: it is asked again."""
    node, walk = total_variation(2000)
    y, weight = node(walk), torch.randn(2000, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * y).sum(), walk)
    torch.testing.assert_close(gradient, averages(y, weight), rtol=1e-10, atol=1e-10)


def test_a_derivative_that_may_be_inaccurate_is_announced():
    node, walk = total_variation(2000, solver=Rough())
    y = node(walk)
    with pytest.warns(SolveWarning, match=r"may be inaccurate.*tolerance"):
        y.sum().backward()
    with pytest.raises(SolveWarning, match="may be inaccurate"):  # warnings are errors here
        torch.func.jvp(node, (walk.detach(),), (torch.ones_like(walk),))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_solution_of_low_accuracy_is_polished(name):
    family = FAMILIES[name]()
    parts = (family.problem, family.parameters, family.variables)
    values = family.values()
    exact = CvxpyNode(*parts)(*values)
    try:
        found = CvxpyNode(*parts, solver=Rough(tolerance=1e-4))(*values)
    except SolveError:
        return
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_nothing_unsolved_counts_as_solved(name, size):
    """From anywhere Newton's method may find the solution; otherwise the problem is not solved."""
    family = FAMILIES[name]()
    parts = (family.problem, family.parameters, family.variables)
    values = family.values(3)
    exact = CvxpyNode(*parts)(*values)
    solution = CvxpyNode(*parts, solver=Liar(size=size), on_failure="nan").solution(*values)
    solved = solution.converged
    torch.testing.assert_close(solution.values[0][solved], exact[solved], rtol=1e-5, atol=1e-5)
    assert solution.values[0][~solved].isnan().all()
    assert set(solution.status.tolist()) <= {Status.CONVERGED, Status.STALLED}


def test_slacks_outside_of_their_cones_are_noticed():
    c, x = cp.Parameter(3), cp.Variable(3)
    problem = cp.Problem(cp.Minimize(c @ x), [cp.norm(x) <= 1])
    parts = (problem, [c], [x])
    value = torch.randn(3, dtype=torch.float64)
    solution = CvxpyNode(*parts, solver=Outsider(), on_failure="nan").solution(value)
    if solution.converged:
        expected = -value / value.norm()
        torch.testing.assert_close(solution.values[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("x", "weak"), [(0.5, False), (1.0, True), (1.0 + 1e-4, False), (-1.0, False), (0.0, True)]
)
def test_weakly_active_constraints_are_reported(x, weak):
    p, y = cp.Parameter(), cp.Variable()
    problem = cp.Problem(cp.Minimize(cp.square(y - p)), [y >= 0, y <= 1])
    solution = CvxpyNode(problem, [p], [y]).solution(torch.tensor(x, dtype=torch.float64))
    assert bool(solution.weakly_active) is weak


@pytest.mark.parametrize(("distance", "weak"), [(0.5, False), (1.0, True), (2.0, False)])
def test_weakly_active_cones_are_reported(distance, weak):
    """The nearest point of the unit ball, and of the semidefinite matrices below the identity."""
    p, y = cp.Parameter(3), cp.Variable(3)
    ball = CvxpyNode(cp.Problem(cp.Minimize(cp.sum_squares(y - p)), [cp.norm(y) <= 1]), [p], [y])
    point = torch.tensor([distance, 0.0, 0.0], dtype=torch.float64)
    assert bool(ball.solution(point).weakly_active) is weak
    P, Y = cp.Parameter((2, 2), symmetric=True), cp.Variable((2, 2), symmetric=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(Y - P)), [np.eye(2) - Y >> 0])
    matrices = CvxpyNode(problem, [P], [Y])
    matrix = torch.diag(torch.tensor([distance, 0.2], dtype=torch.float64))
    assert bool(matrices.solution(matrix).weakly_active) is weak


def test_further_settings_reach_the_solver():
    node, walk = total_variation(200, solver=Clarabel(settings=(("max_iter", 1),)))
    with pytest.raises(SolveError, match="MAX_ITERATIONS"):
        node(walk)
    assert replace(Clarabel(), max_iterations=7).finer() == Clarabel(1e-11, max_iterations=7)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "clarabel", None)
    with pytest.raises(MissingDependencyError, match=r"ddn-torch\[cvxpy\]"):
        total_variation(5)


@pytest.mark.gpu
def test_on_a_gpu(device):
    node, walk = total_variation(20)
    there = walk.detach().to(device).requires_grad_()
    y = node(there)
    assert y.device == there.device
    torch.testing.assert_close(y.cpu(), node(walk))
    y.square().sum().backward()
    assert there.grad.device == there.device
