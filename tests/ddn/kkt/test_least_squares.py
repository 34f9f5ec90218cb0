"""Multipliers from least squares by products."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddn.kkt.least_squares import multipliers_by_products
from tests.ddn.kkt.cases import NODES, make_system


@pytest.mark.parametrize("node", [name for name in NODES if name != "unconstrained"])
@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "batch"])
def test_against_the_pseudoinverse(node, batch, device, dtype, tolerance):
    system = make_system(NODES[node](), batch, 9, device, dtype)
    gradient = torch.randn_like(system.y)
    with torch.no_grad():
        found = multipliers_by_products(
            system.lagrangian.problem, system.y, gradient, system.active, system.operands
        )
    transposed = system.jacobian().mT
    expected = -(torch.linalg.pinv(transposed) @ gradient.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found, expected, rtol=tolerance.gradient, atol=tolerance.gradient)
    kept = system.row_weight > 0
    assert (found[~kept] == 0).all()


def test_bounds_that_fix_a_variable(device, dtype, tolerance):
    """Both near: one of them carries all of the multiplier, and it is nonnegative."""
    system = make_system(NODES["bounds"](), (), 4, device, dtype)
    system = replace(system, operands=[torch.zeros_like(system.y)] * 2)
    gradient = torch.tensor([1.0, -2.0, 3.0, -4.0], device=device, dtype=dtype)
    candidate = torch.ones(8, dtype=torch.bool, device=device)
    with torch.no_grad():
        found = multipliers_by_products(
            system.lagrangian.problem, system.y, gradient, candidate, system.operands
        )
    expected = torch.cat([gradient.clamp_min(0), (-gradient).clamp_min(0)])
    torch.testing.assert_close(found, expected, rtol=tolerance.value, atol=tolerance.value)
