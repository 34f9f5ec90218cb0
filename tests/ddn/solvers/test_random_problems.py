"""Random problems of all kinds: each is solved, or it is said why not; none is called solved that is not.

The claims that are judged are those of the solvers themselves, before the node verifies them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddn import Status
from ddn.solution import SolverResult
from ddn.solvers import InteriorPoint, Newton
from ddn.solvers.lbfgs import LBFGS
from tests.ddn.solvers.random_problems import KINDS, draw, tally

SOLVERS = {"LBFGS": LBFGS(), "Newton": Newton(), "InteriorPoint": InteriorPoint()}
# Share of the problems with a solution that a solver has to find.
_SHARE = 0.98


def check(name, count, seed):
    result = tally(name, SOLVERS[name], count, seed)
    assert result.count >= count
    assert not result.wrong, result.wrong
    # Whatever is not solved has a status, and that has a remedy.
    assert all(Status[status].remedy for status in result.statuses)
    assert len(result.failed) <= (1 - _SHARE) * result.count, result.failed
    assert result.statuses["NOT_FINITE"] > 0


@pytest.mark.parametrize("name", SOLVERS)
def test_a_hundred_random_problems(name):
    check(name, 100, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_a_thousand_random_problems(name):
    check(name, 1000, seed=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_judge(name):
    """Solutions pass; points beside them, wrong multipliers and NaN do not."""
    for number, kind in enumerate(KINDS[name]):
        generator = np.random.default_rng([7, number])
        problems = draw(generator, kind)
        while problems.dtype != torch.float64 or problems.data["q"].ndim < 2:
            problems = draw(generator, kind)
        claimed, _ = problems.solve(SOLVERS[name])
        solved = (claimed.status == Status.CONVERGED).numpy()
        assert solved.any()
        np.testing.assert_array_equal(problems.is_minimum(claimed)[solved], True)
        unit = torch.from_numpy(problems.data["s"]).unsqueeze(-1)
        for y in (claimed.y + 1e-3 * unit, claimed.y * torch.nan):
            beside = SolverResult(y, claimed.multipliers, claimed.status, claimed.iterations)
            assert not problems.is_minimum(beside)[solved].any()
        size = claimed.multipliers.abs()
        held = solved & (size > 0).any(-1).numpy()
        beside = SolverResult(
            claimed.y, 1.01 * claimed.multipliers, claimed.status, claimed.iterations
        )
        # Some multipliers are too small beside the other terms to be seen.
        assert problems.is_minimum(beside)[held].sum() <= 0.2 * held.sum()
