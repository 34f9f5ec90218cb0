"""All linear solvers against a dense factorization, on systems of all kinds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddn.kkt.unconstrained import Unconstrained
from tests.ddn.kkt.cases import NODES, SOLVERS, Coupled, Separable, make_system, solve_both


def assert_agrees(system, solver, tolerance, **options):
    found, expected, failed = solve_both(system, solver, **options)
    assert failed.shape == expected[0].shape[:-1]
    assert not failed.any()
    for one, other in zip(found, expected, strict=True):
        size = float(other.abs().max()) if other.numel() else 1.0
        torch.testing.assert_close(
            one, other, rtol=tolerance.gradient, atol=tolerance.gradient * max(size, 1)
        )


PAIRS = [
    pytest.param(solver, node, id=f"{solver}-{node}")
    for solver in SOLVERS
    for node in NODES
    if (solver, node) != ("block", "coupled")
]


@pytest.mark.parametrize(("solver", "node"), PAIRS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=["one", "batch", "batch2"])
def test_active_sets(solver, node, batch, device, dtype, tolerance):
    system = make_system(NODES[node](), batch, 9, device, dtype)
    assert_agrees(system, SOLVERS[solver], tolerance)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("extra", [(4,), (2, 2)], ids=["rows", "grid"])
@pytest.mark.parametrize("batch", [(), (3,)], ids=["one", "batch"])
def test_further_right_sides(solver, extra, batch, device, dtype, tolerance):
    system = make_system(Separable(), batch, 9, device, dtype)
    assert_agrees(system, SOLVERS[solver], tolerance, extra=extra)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("node", ["bounds", "separable"])
@pytest.mark.parametrize("barrier", [1.0, 0.01])
def test_central_path(solver, node, barrier, device, dtype, tolerance):
    system = make_system(NODES[node](), (3,), 9, device, dtype, barrier)
    assert_agrees(system, SOLVERS[solver], tolerance)


@pytest.mark.parametrize("solver", SOLVERS)
def test_right_side_of_y_alone(solver, device, dtype, tolerance):
    """That of a backward pass: constraints and bounds stay where they are."""
    system = make_system(Separable(), (3,), 9, device, dtype)
    assert_agrees(system, SOLVERS[solver], tolerance, constraints=False)


@pytest.mark.parametrize("solver", SOLVERS)
def test_right_side_zero(solver, device, dtype):
    system = make_system(Separable(), (2,), 6, device, dtype)
    right = torch.zeros_like(system.y), torch.zeros_like(system.multipliers)
    u, s, failed = SOLVERS[solver].factorize(system).solve(*right)
    assert not failed.any()
    assert not u.any()
    assert not s.any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_units_do_not_matter(solver, device, dtype, tolerance):
    """Objective and right side in other units: the same u, multipliers in those units."""

    class Scaled(Separable):
        def objective(self, x, w, y):
            return 1e6 * super().objective(x, w, y)

    system = make_system(Scaled(), (2,), 8, device, dtype)
    assert_agrees(system, SOLVERS[solver], tolerance, constraints=False)


@pytest.mark.parametrize("solver", SOLVERS)
def test_nothing_free(solver, device, dtype, tolerance):
    """Every variable has an active bound."""
    system = make_system(NODES["bounds"](), (), 6, device, dtype)
    x = torch.zeros(6, device=device, dtype=dtype)
    lower = torch.tensor([1, 1, 1, 0, 0, 0], dtype=torch.bool, device=device)
    active = torch.cat([lower, ~lower])
    operands = [x, x]
    system = replace(system, active=active, operands=operands)
    assert_agrees(system, SOLVERS[solver], tolerance, constraints=False)


@pytest.mark.parametrize("solver", SOLVERS)
def test_hessian_alone(solver, device, dtype, tolerance):
    """As :class:`ddn.UnconstrainedGradient` uses it."""
    node = Separable() if solver == "block" else Coupled()
    system = make_system(node, (3,), 7, device, dtype)
    assert_agrees_unconstrained(system, SOLVERS[solver], tolerance)


def assert_agrees_unconstrained(system, solver, tolerance):
    right = torch.randn_like(system.y), torch.zeros_like(system.multipliers)
    u, s, failed = Unconstrained(solver).factorize(system).solve(*right)
    assert not failed.any()
    assert s.shape == system.multipliers.shape
    product = (system.hessian() @ u.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(product, right[0], rtol=tolerance.gradient, atol=tolerance.gradient)


@pytest.mark.parametrize("solver", SOLVERS)
def test_broken_neighbour_changes_nothing(solver, device, dtype, tolerance):
    system = make_system(Separable(), (3,), 8, device, dtype)
    y = system.y.clone()
    y[1] = torch.nan
    broken = replace(system, y=y)
    right = torch.randn_like(y), torch.randn_like(system.multipliers)
    factorization = SOLVERS[solver]
    whole = factorization.factorize(broken).solve(*right)
    healthy = factorization.factorize(system).solve(*right)
    for index in (0, 2):
        for part, other in zip(whole, healthy, strict=True):
            torch.testing.assert_close(
                part[index].to(dtype),
                other[index].to(dtype),
                rtol=tolerance.value,
                atol=tolerance.value,
            )
    # No number where there is none: NaN, or a failure.
    assert whole[2][1] or whole[0][1].isnan().any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_broken_right_side(solver, device, dtype):
    system = make_system(Separable(), (3,), 8, device, dtype)
    right_y, right_multipliers = torch.randn_like(system.y), torch.randn_like(system.multipliers)
    right_y[2, 0] = torch.nan
    u, s, failed = SOLVERS[solver].factorize(system).solve(right_y, right_multipliers)
    assert not failed[:2].any()
    assert u[:2].isfinite().all()
    # Where a bound fixes the variable, only its multiplier is concerned.
    assert failed[2] or u[2].isnan().any() or s[2].isnan().any()
