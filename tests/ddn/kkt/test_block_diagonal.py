"""Separable problems: blocks of the Hessian, and what is done where they are none."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.errors import SignatureError, SingularSystemError
from ddn.kkt import BlockDiagonal
from ddn.kkt.blocks import diagonal_blocks, has_other_entries
from tests.ddn.kkt.cases import Coupled, make_system, solve_both
from tests.ddn.problems import Entropy, make_node


class Groups(ddn.DeclarativeNode):
    """Consecutive variables are coupled in groups of three; the last group is smaller."""

    signature = "(n),(n)->(n)"

    def objective(self, x, w, y):
        padded = torch.nn.functional.pad(y, (0, -len(y) % 3)).reshape(-1, 3)
        return ((y - x).square() * (1 + w.square())).sum() + padded.sum(-1).square().sum()

    def equality(self, x, w, y):
        return torch.stack([y.sum(), (w * y).sum()])

    def bounds(self, x, w):
        return -1.0, None


class Softmax(Entropy):
    """With its known solution."""

    def solve(self, x):
        return torch.softmax(x, -1)


@pytest.mark.parametrize("n", [7, 9])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "batch"])
@pytest.mark.parametrize("barrier", [0.0, 0.1])
def test_groups(n, batch, barrier, device, dtype, tolerance):
    system = make_system(Groups(), batch, n, device, dtype, barrier)
    for extra in ((), (3,)):
        found, expected, failed = solve_both(system, BlockDiagonal(3), extra)
        assert not failed.any()
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_blocks_are_those_of_the_hessian(device, dtype, tolerance):
    system = make_system(Groups(), (2,), 7, device, dtype)
    matrix = diagonal_blocks(system, 3)
    hessian = system.hessian()
    assert matrix.blocks.shape == (2, 3, 3, 3)
    torch.testing.assert_close(matrix.diagonal(), hessian.diagonal(dim1=-2, dim2=-1))
    u = torch.randn(4, 2, 7, device=device, dtype=dtype)
    torch.testing.assert_close(
        matrix.product(u),
        torch.einsum("bij,ebj->ebi", hessian, u),
        rtol=tolerance.value,
        atol=tolerance.value,
    )
    d = torch.rand(2, 7, device=device, dtype=dtype)
    torch.testing.assert_close(matrix.add_diagonal(d).diagonal(), matrix.diagonal() + d)
    assert not has_other_entries(system, matrix).any()
    assert has_other_entries(system, diagonal_blocks(system, 2)).all()


def test_one_problem_with_other_entries(device, dtype):
    """An entry is found whatever the size of others."""
    node = make_node(
        "(n),(n),()->(n)",
        lambda x, w, c, y: (w * (y - x).square()).sum() + c * y[1] * y[2],
    )
    x = torch.zeros(3, 4, device=device, dtype=dtype)
    w = torch.tensor([1e8, 1.0, 1.0, 1.0], device=device, dtype=dtype)
    if dtype == torch.float32:
        w[0] = 1e2
    c = torch.tensor([0.0, 0.5, 0.0], device=device, dtype=dtype)
    bound = node.bind(x, w, c)
    system = ddn.kkt.KKTSystem(
        ddn.lagrangian.Lagrangian(bound.problem),
        x,
        x[:, :0],
        x[:, :0].bool(),
        bound.operands,
    )
    outside = has_other_entries(system, diagonal_blocks(system, 1))
    assert outside.tolist() == [False, True, False]
    with pytest.raises(SignatureError, match=r"block_size=1 for batch element\(s\) 1"):
        BlockDiagonal().factorize(system)


def test_size_is_checked():
    with pytest.raises(ValueError, match="block_size"):
        BlockDiagonal(0)


def test_whole_hessian_as_one_block(device, dtype, tolerance):
    system = make_system(Coupled(), (2,), 5, device, dtype)
    found, expected, failed = solve_both(system, BlockDiagonal(100))
    assert not failed.any()
    torch.testing.assert_close(
        found[0], expected[0], rtol=tolerance.gradient, atol=tolerance.gradient
    )


@pytest.mark.parametrize("block_size", [1, 2])
def test_no_curvature_where_bounds_hold(block_size, device, dtype, tolerance):
    """A linear program at a vertex: H is zero, bounds and the equality determine the solution."""
    node = make_node("(n)->(n)", lambda x, y: x @ y, lambda x, y: y.sum().unsqueeze(0) - 1)
    type(node).bounds = lambda self, x: (0.0, None)
    x = torch.tensor([[3.0, 1.0, 2.0, 5.0], [0.0, 1.0, 2.0, 3.0]], device=device, dtype=dtype)
    y = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], device=device, dtype=dtype)
    bound = node.bind(x)
    active = torch.cat([y == 0, torch.zeros_like(y, dtype=torch.bool)], -1)
    multipliers = torch.rand(2, 9, device=device, dtype=dtype)
    system = ddn.kkt.KKTSystem(
        ddn.lagrangian.Lagrangian(bound.problem), y, multipliers, active, bound.operands
    )
    solver = BlockDiagonal(block_size)
    found, expected, failed = solve_both(system, solver)
    assert not failed.any()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance.gradient, atol=tolerance.gradient)


def test_rounding_errors_are_no_curvature(tolerance):
    """The smallest eigenvalue of a diagonal matrix: one entry of H is zero but for rounding."""
    node = make_node("(n)->(n)", lambda d, y: 0.3 * (d * y * y).sum(), lambda d, y: y @ y - 1)
    d = torch.tensor([0.7, 1.3, 2.1, 3.4], dtype=torch.float64)
    bound = node.bind(d)
    y = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    system = ddn.kkt.KKTSystem(
        ddn.lagrangian.Lagrangian(bound.problem),
        y,
        torch.tensor([-0.3 * 0.7 * (1 + 1e-15)], dtype=torch.float64),
        torch.zeros(0, dtype=torch.bool),
        bound.operands,
    )
    assert diagonal_blocks(system, 1).diagonal()[0] == 0
    found, expected, failed = solve_both(system, BlockDiagonal())
    assert not failed
    torch.testing.assert_close(
        found[0], expected[0], rtol=tolerance.gradient, atol=tolerance.gradient
    )


def test_curvature_of_very_different_sizes(tolerance):
    """As of Σ y log y near the boundary: small entries are no rounding errors."""
    x = torch.tensor([0.0, -300.0, -30.0, 1.0, -600.0], dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(5, dtype=torch.float64)
    node = Softmax(gradient=ddn.ImplicitGradient(linear_solver=BlockDiagonal()))
    (found,) = torch.autograd.grad(node(x), x, cotangent)
    (expected,) = torch.autograd.grad(torch.softmax(x, -1), x, cotangent)
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=0)


def test_singular_problem_of_a_batch(device, dtype):
    """Only it fails; another one is singular, too, but the direction lies in its range."""
    node = make_node("(n),(n)->(n)", lambda x, w, y: (w * (y - x).square()).sum())
    x = torch.zeros(3, 3, device=device, dtype=dtype)
    w = torch.ones(3, 3, device=device, dtype=dtype)
    w[1, 0] = w[2, 0] = 0
    bound = node.bind(x, w)
    system = ddn.kkt.KKTSystem(
        ddn.lagrangian.Lagrangian(bound.problem), x, x[:, :0], x[:, :0].bool(), bound.operands
    )
    right = torch.ones_like(x)
    right[2, 0] = 0
    u, _, failed = BlockDiagonal().factorize(system).solve(right, x[:, :0])
    assert failed.tolist() == [False, True, False]
    torch.testing.assert_close(u[0], right[0] / 2)
    torch.testing.assert_close(u[2], right[2] / 2)


def test_large_problem_against_closed_form():
    """No matrix of m² numbers: these would be 32 GB."""
    m = 65_536
    x = torch.randn(m, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(m, dtype=torch.float64)
    (expected,) = torch.autograd.grad(torch.softmax(x, -1), x, cotangent)
    for solver in (BlockDiagonal(), ddn.kkt.Automatic()):
        node = Softmax(gradient=ddn.ImplicitGradient(linear_solver=solver))
        (found,) = torch.autograd.grad(node(x), x, cotangent)
        assert (found - expected).norm() <= 1e-10 * expected.norm()


def test_large_singular_problem_is_reported():
    """Too large for a dense matrix: no second way."""
    m = 2500
    x = torch.zeros(m, dtype=torch.float64, requires_grad=True)
    node = make_node(
        "(n)->(n)",
        lambda x, y: (y[1:] - x[1:]).square().sum() + 0 * y[0],
        solve=lambda x: x.clone(),
        gradient=ddn.ImplicitGradient(linear_solver=BlockDiagonal()),
    )
    with pytest.raises(SingularSystemError, match="singular blocks"):
        node(x).sum().backward()
