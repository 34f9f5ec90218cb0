"""Newton's method where there is nothing to find: never a solution, always a word."""

from __future__ import annotations

import pytest
import torch

from ddn import Status
from ddn.errors import SolveError
from ddn.solvers import Newton
from tests.ddn.problems import make_node

UNBOUNDED = {
    "linear": lambda x, y: x * y,
    "concave": lambda x, y: -x * y**2,
    "cubic down": lambda x, y: -x * y**3,
    "logarithm": lambda x, y: -x * y.log(),
    "square root": lambda x, y: -x * y.sqrt(),
    "reciprocal": lambda x, y: x / y,
    "exponential": lambda x, y: torch.exp(-x * y),
    "softplus": lambda x, y: torch.nn.functional.softplus(-x * y),
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_objective_without_minimum(name, device, dtype):
    # Steps of length 1: after 70 of them the exponential has not underflowed, in float32 either. Once it
    # has, the objective is constant in floating point, and no solver can tell that from a minimum.
    limit = 70 if name in {"exponential", "softplus"} else Newton().max_iterations
    node = make_node("()->()", UNBOUNDED[name], solver=Newton(max_iterations=limit))
    with pytest.raises(SolveError, match=r"MAX_ITERATIONS|STALLED|NOT_FINITE|UNBOUNDED"):
        node(torch.ones((), device=device, dtype=dtype))


INFEASIBLE = {
    "1 = 0": lambda x, y: torch.ones_like(y[:1]),
    "‖y‖² = −1": lambda x, y: y.square().sum().unsqueeze(0) + 1,
    "contradiction": lambda x, y: torch.stack([y.sum() - 1, y.sum() - 2]),
    "exp y = 0": lambda x, y: y.exp(),
}


@pytest.mark.parametrize("name", INFEASIBLE)
def test_no_feasible_point(name, device, dtype):
    node = make_node("(n)->(n)", lambda x, y: (y - x).square().sum(), INFEASIBLE[name])
    with pytest.raises(
        SolveError, match=r"MAX_ITERATIONS|STALLED|NOT_FINITE|NOT_STATIONARY|INFEASIBLE"
    ):
        node(torch.randn(3, device=device, dtype=dtype))


def test_failing_problem_leaves_others_untouched(device, dtype):
    """One unbounded problem and one with NaN in a batch of good ones."""
    node = make_node("(),()->()", lambda a, x, y: 0.5 * a * y**2 - x * y, on_failure="nan")
    a = torch.tensor([1.0, -1.0, 4.0, torch.nan, 2.0], device=device, dtype=dtype)
    x = torch.tensor([3.0, 1.0, 2.0, 1.0, -1.0], device=device, dtype=dtype)
    solution = node.solution(a, x)
    good = [0, 2, 4]
    assert (solution.status == Status.CONVERGED).tolist() == [True, False, True, False, True]
    assert solution.status[3] == Status.NOT_FINITE
    alone = node.solution(a[good], x[good])
    assert torch.equal(solution.y[good], alone.y)
    assert torch.equal(solution.iterations[good], alone.iterations)
    assert bool(solution.y[[1, 3]].isnan().all())


def test_starting_point_outside_the_domain(device, dtype):
    node = make_node("(n)->(n)", lambda x, y: y.sum() - (y - x).log().sum())
    with pytest.raises(SolveError, match="starting_point"):
        node(torch.full((2,), 10.0, device=device, dtype=dtype))


def test_iteration_limit(device, dtype):
    node = make_node("()->()", lambda x, y: (y - x) ** 4, solver=Newton(max_iterations=3))
    with pytest.raises(SolveError, match=r"(?s)Newton.*MAX_ITERATIONS.*max_iterations"):
        node(torch.ones((), device=device, dtype=dtype))
