"""The Lagrangian of an active set, its derivatives, and the blocks of the KKT matrix."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.kkt.reduced import ReducedSystem
from ddn.kkt.system import KKTSystem
from ddn.lagrangian import Lagrangian


class Curved(ddn.DeclarativeNode):
    """Two equalities, two inequalities and bounds, nothing linear among the first."""

    signature = "(n)->(n)"

    def objective(self, x, y):
        return (y - x).square().sum() + (y * x).sin().sum()

    def equality(self, x, y):
        return torch.stack([y @ y - 1, (x * y).sum() ** 2])

    def inequality(self, x, y):
        return y[0] * y[1] - x[0], y[:1].exp()

    def bounds(self, x):
        return torch.where(x > 0, -x, -torch.inf), 3.0


@pytest.fixture(params=[(), (4,)], ids=["one", "batch"])
def point(request, device, dtype):
    x = torch.randn(*request.param, 3, device=device, dtype=dtype)
    bound = Curved().to(device, dtype).bind(x)
    q = 2 + 6
    y = torch.randn(*request.param, 3, device=device, dtype=dtype)
    multipliers = torch.rand(*request.param, 2 + q, device=device, dtype=dtype) + 0.5
    active = torch.rand(*request.param, q, device=device) < 0.5
    return bound.problem, (y, multipliers, active, bound.operands)


def test_constraint_rows_are_in_order(point):
    problem, (y, _, _, (x,)) = point
    rows = problem.constraints(y, (x,))
    assert problem.num_bound_rows == 6
    expected = [
        (y * y).sum(-1, keepdim=True) - 1,
        (x * y).sum(-1, keepdim=True) ** 2,
        y[..., :1] * y[..., 1:2] - x[..., :1],
        y[..., :1].exp(),
        torch.where(x > 0, -x - y, -1),
        y - 3,
    ]
    torch.testing.assert_close(rows, torch.cat(expected, -1))
    assert problem.num_inequalities(y, (x,)) == 8


def test_jacobian_against_autograd(point, tolerance):
    problem, (y, _, _, (x,)) = point
    jacobian = problem.constraint_jacobian(y, (x,))

    def rows(y, x):
        return problem.constraints(y, (x,))

    reference = torch.func.jacrev(rows)
    if y.ndim == 2:
        reference = torch.func.vmap(reference)
    torch.testing.assert_close(
        jacobian, reference(y, x), rtol=tolerance.value, atol=tolerance.value
    )


@pytest.mark.parametrize("barrier", [0.0, 0.3])
def test_value_is_the_formula(point, barrier, tolerance):
    problem, (y, multipliers, active, operands) = point
    value = Lagrangian(problem, barrier).value(y, multipliers, active, operands)
    lam, nu = multipliers[..., :2], multipliers[..., 2:]
    g = problem.inequality(y, operands)
    expected = problem.objective(y, operands) + (lam * problem.equality(y, operands)).sum(-1)
    if barrier:
        expected = expected + (nu * g + barrier * nu.log()).sum(-1)
    else:
        expected = expected + torch.where(active, nu * g, -(nu**2) / 2).sum(-1)
    torch.testing.assert_close(value, expected, rtol=tolerance.value, atol=tolerance.value)


@pytest.mark.parametrize("barrier", [0.0, 0.3])
def test_blocks_are_the_products(point, barrier, tolerance):
    """K from its blocks against K from products with unit vectors."""
    problem, (y, multipliers, active, operands) = point
    system = KKTSystem(Lagrangian(problem, barrier), y, multipliers, active, operands)
    m, rows = 3, multipliers.shape[-1]
    columns = []
    for unit in torch.eye(m + rows, dtype=y.dtype, device=y.device):
        u = unit[:m].expand_as(y).clone()
        s = unit[m:].expand_as(multipliers).clone()
        columns.append(torch.cat(system.product(u, s), -1))
    matrix = torch.stack(columns, -1)
    torch.testing.assert_close(matrix, matrix.mT, rtol=tolerance.value, atol=tolerance.value)
    close = {"rtol": tolerance.value, "atol": tolerance.value}
    torch.testing.assert_close(matrix[..., :m, :m], system.hessian(), **close)
    torch.testing.assert_close(matrix[..., m:, :m], system.jacobian(), **close)
    corner = torch.diag_embed(-system.corner)
    torch.testing.assert_close(matrix[..., m:, m:], corner, **close)


def test_reduction_keeps_the_solution(device, dtype, tolerance):
    """Eliminating rows with C > 0 and gathering the others against the full matrix."""
    batch, m, rows = 5, 4, 3
    hessian = torch.randn(batch, m, m, device=device, dtype=dtype)
    hessian = hessian @ hessian.mT + torch.eye(m, device=device, dtype=dtype)
    jacobian = torch.randn(batch, rows, m, device=device, dtype=dtype)
    corner = torch.rand(batch, rows, device=device, dtype=dtype)
    corner = torch.where(corner < 0.5, 0, corner)
    corner[0], corner[1] = 0, 1
    full = torch.cat(
        [
            torch.cat([hessian, jacobian.mT], -1),
            torch.cat([jacobian, -torch.diag_embed(corner)], -1),
        ],
        -2,
    )
    right = torch.randn(batch, m + rows, device=device, dtype=dtype)
    reduced = ReducedSystem.of(hessian, jacobian, corner)
    assert reduced.padding.sum(-1).tolist() == [
        reduced.rows.shape[-1] - int((c == 0).sum()) for c in corner
    ]
    first, second = reduced.reduce_right_side(right[:, :m], right[:, m:])
    for i in range(batch):
        kept = ~reduced.padding[i]
        a = reduced.jacobian[i, kept]
        zero = a.new_zeros(len(a), len(a))
        small = torch.cat([torch.cat([reduced.hessian[i], a.mT], -1), torch.cat([a, zero], -1)], -2)
        solution = torch.linalg.lstsq(small, torch.cat([first[i], second[i, kept]])[:, None])
        padded = torch.zeros_like(second[i])
        padded[kept] = solution.solution[m:, 0]
        u = solution.solution[:m, 0]
        s = reduced_one(reduced, i).expand_solution(u, padded, right[i, m:])
        residual = full[i] @ torch.cat([u, s]) - right[i]
        size = tolerance.gradient * (1 + float(s.abs().max()))
        assert float(residual.abs().max()) < size


def reduced_one(reduced, i):
    *tensors, whole = (getattr(reduced, name) for name in reduced.__dataclass_fields__)
    return ReducedSystem(*(tensor[i] for tensor in tensors), whole)
