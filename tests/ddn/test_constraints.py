"""How constraints are stated."""

from __future__ import annotations

import pytest
import torch

import ddn
from ddn.constraints import asymmetry, flatten_constraints
from ddn.errors import SignatureError
from tests.ddn.problems import make_node


def test_symmetric_keeps_the_lower_triangle():
    matrix = torch.tensor([[1.0, 9.0, 9.0], [2.0, 4.0, 9.0], [3.0, 5.0, 6.0]])
    assert flatten_constraints(ddn.symmetric(matrix)).tolist() == [1, 2, 3, 4, 5, 6]


def test_kinds_are_joined_in_order():
    value = (torch.tensor([[1.0], [2.0]]), ddn.symmetric(torch.tensor([[3.0, 4.0], [4.0, 5.0]])))
    assert flatten_constraints([value, torch.tensor(6.0)]).tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 2, 2), ()])
def test_symmetric_needs_a_square_matrix(shape):
    with pytest.raises(SignatureError, match="square matrix"):
        ddn.symmetric(torch.zeros(shape))


@pytest.mark.parametrize("value", [None, 0.0, (), {"h": torch.zeros(1)}, (torch.zeros(1), None)])
def test_other_results_are_errors(value):
    with pytest.raises(SignatureError, match="A constraint function must return"):
        flatten_constraints(value)


def test_asymmetry_is_relative():
    matrix = torch.tensor([[0.0, 1e6], [1e6 + 1, 0.0]], dtype=torch.float64)
    assert asymmetry(ddn.symmetric(matrix)).item() == pytest.approx(1e-6, rel=1e-3)
    assert asymmetry((torch.zeros(1), [ddn.symmetric(matrix)])).item() > 0
    assert asymmetry(torch.zeros(1)) is None
    assert asymmetry(ddn.symmetric(torch.zeros(2, 2))).item() == 0


def orthonormal(V):
    return ddn.symmetric(V.mT @ V - torch.eye(V.shape[-1], dtype=V.dtype, device=V.device))


def test_matrix_that_is_not_symmetric(device, dtype):
    node = make_node(
        "(d,r)->(d,r)",
        lambda C, V: (V - C).square().sum(),
        lambda C, V: ddn.symmetric(V.mT @ C),
    )
    with pytest.raises(SignatureError, match=r"marks a matrix as symmetric that is not"):
        node(torch.randn(4, 3, device=device, dtype=dtype))


def metric_node(**options):
    return make_node(
        "(d,r),(d,d)->(d,r)",
        lambda C, B, V: (V - C).square().sum(),
        lambda C, B, V: ddn.symmetric(
            V.mT @ B @ V - torch.eye(V.shape[-1], dtype=V.dtype, device=V.device)
        ),
        **options,
    )


def test_symmetry_that_depends_on_the_data(device, dtype):
    """A first call with a symmetric metric does not vouch for a second one."""
    node = metric_node()
    C = torch.randn(4, 2, device=device, dtype=dtype)
    metric = torch.eye(4, device=device, dtype=dtype)
    node(C, metric)
    with pytest.raises(SignatureError, match="symmetric"):
        node(C, metric + 0.5 * torch.randn(4, 4, device=device, dtype=dtype))


def test_symmetry_is_not_vouched_for_by_nan(device, dtype):
    node = metric_node(on_failure="nan")
    C = torch.randn(4, 2, device=device, dtype=dtype)
    metric = torch.eye(4, device=device, dtype=dtype)
    assert node(C, metric * torch.nan).isnan().all()
    with pytest.raises(SignatureError, match="symmetric"):
        node(C, metric + 0.5 * torch.randn(4, 4, device=device, dtype=dtype))


def test_symmetric_constraint_against_polar_factor(device, dtype, tolerance):
    """The nearest matrix with orthonormal columns, multipliers in vech order."""
    node = make_node(
        "(d,r)->(d,r)", lambda C, V: 0.5 * (V - C).square().sum(), lambda C, V: orthonormal(V)
    )
    C = torch.randn(3, 5, 2, device=device, dtype=dtype)
    left, values, right = torch.linalg.svd(C, full_matrices=False)
    solution = node.solution(C)
    torch.testing.assert_close(
        solution.y, left @ right, rtol=tolerance.solver, atol=tolerance.solver
    )
    # V − C + V Λ = 0 with V = C S⁻¹: Λ = S − I; off-diagonal multipliers count twice in vech.
    stretch = (right.mT * values.unsqueeze(-2)) @ right
    expected = torch.stack(
        [(stretch[:, 0, 0] - 1) / 2, stretch[:, 1, 0], (stretch[:, 1, 1] - 1) / 2], -1
    )
    torch.testing.assert_close(
        solution.equality_multipliers, expected, rtol=tolerance.solver, atol=tolerance.solver
    )


def test_constraint_tuple(device, dtype, tolerance):
    """argmin ½‖y − x‖² s.t. Σy = 1 and y₀ = y₁."""
    node = make_node(
        "(n)->(n)",
        lambda x, y: 0.5 * (y - x).square().sum(),
        lambda x, y: (y.sum() - 1, y[:1] - y[1:2]),
    )
    x = torch.randn(4, 3, device=device, dtype=dtype)
    y = node(x)
    paired = torch.stack([x[:, :2].mean(-1), x[:, :2].mean(-1), x[:, 2]], -1)
    expected = paired - (paired.sum(-1, keepdim=True) - 1) / 3
    torch.testing.assert_close(y, expected, rtol=tolerance.solver, atol=tolerance.solver)
    assert node.solution(x).equality_multipliers.shape == (4, 2)


def test_bad_constraint_value():
    node = make_node("(n)->(n)", lambda x, y: (y - x).square().sum(), lambda x, y: None)
    with pytest.raises(SignatureError, match="returned NoneType"):
        node(torch.zeros(3))
