"""Random examples of every problem of the zoo: right, or refused, or flagged; never wrong in silence."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings

from ddn.testing.problems import ZOO, KnownProblem, by_name
from ddn.testing.problems.formulas import solve_positive
from ddn.testing.problems.smooth import Quadratic
from tests.ddn.testing import judge as judge_module
from tests.ddn.testing.examples import Example, examples
from tests.ddn.testing.judge import Outcome, judge

FEW, MANY = 2000, 50000
# A solver that fails takes long to give up, and one example is much like another.
REGULAR_SHARE = 0.92


def share(problem, total):
    """How many of ``total`` examples are of this problem."""
    alike = sum(other.regular == problem.regular for other in ZOO)
    fraction = REGULAR_SHARE if problem.regular else 1 - REGULAR_SHARE
    return math.ceil(total * fraction / alike)


def run(problem, count, device, dtype, record_property):
    """Judge ``count`` examples; the report of the test says what came of them."""
    # float32 now and then, in the run in float64.
    dtypes = (dtype,) * 7 + (torch.float32,)
    outcomes: Counter[Outcome] = Counter()

    @settings(max_examples=count)
    @given(examples(problem, dtypes))
    def judge_all(example):
        outcomes[judge(example, device)] += 1

    judge_all()
    record_property("zoo", (problem.name, {str(key): value for key, value in outcomes.items()}))
    assert outcomes.total() >= count
    expected = {Outcome.RIGHT} if problem.regular else {Outcome.REFUSED, Outcome.FLAGGED}
    assert set(outcomes) <= expected


def example_of(problem, **changes):
    plain = {
        "seed": 0,
        "size": 3,
        "batch": (2,),
        "exponent": 1.0,
        "mixed": False,
        "layouts": ("contiguous",) * len(problem.sample(torch.Generator(), size=1)),
        "differentiated": (True,) * len(problem.sample(torch.Generator(), size=1)),
        "dtype": torch.float64,
        "second_order": True,
        "certified": True,
        "joint": True,
        "solved": True,
    }
    return Example(problem, **{**plain, **changes})


class WrongFactor(Quadratic):
    """A closed form of the derivative that is right but for a factor."""

    factor = 1 + 1e-5

    def vjp(self, inputs, y, grad_y):
        _, pullback = torch.func.vjp(by_name("quadratic").solution, *inputs)
        return tuple(self.factor * gradient for gradient in pullback(grad_y))


class ConstantDerivative(WrongFactor):
    """Right to first order, constant to second."""

    factor = 1

    def vjp(self, inputs, y, grad_y):
        return super().vjp([x.detach() for x in inputs], y, grad_y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solution": lambda Q, b: (1 + 1e-5) * solve_positive(Q, b)}, "solution: error"),
        ({"node": WrongFactor}, "reverse mode: error"),
        ({"node": ConstantDerivative}, "second order: error"),
        ({"inputs": by_name("ill_conditioned_quadratic").inputs}, "a regular problem was refused"),
        ({"flags": ("strictly_complementary",)}, "trustworthy all the same"),
    ],
)
def test_planted_mistakes_are_found(changes, message):
    problem = by_name("quadratic")
    assert judge(example_of(problem)) is Outcome.RIGHT
    with pytest.raises(AssertionError, match=message):
        judge(example_of(dataclasses.replace(problem, **changes)))


def test_wrong_forward_mode_is_found(monkeypatch):
    compute = judge_module._tangents

    def wrong(function, at, directions):
        y, tangents = compute(function, at, directions)
        factor = 1 + 1e-5 if at[0].requires_grad else 1
        return y, tuple(factor * tangent for tangent in tangents)

    monkeypatch.setattr(judge_module, "_tangents", wrong)
    with pytest.raises(AssertionError, match="forward mode: error"):
        judge(example_of(by_name("softmax"), joint=False))


def test_outcomes_of_problems_that_are_not_regular():
    assert judge(example_of(by_name("saddle"))) is Outcome.FLAGGED
    assert judge(example_of(by_name("empty_box"))) is Outcome.REFUSED


def test_enough_examples():
    assert sum(share(problem, FEW) for problem in ZOO) >= FEW


@pytest.mark.parametrize("problem", ZOO, ids=str)
def test_no_silent_error(problem: KnownProblem, device, dtype, record_property):
    run(problem, share(problem, FEW), device, dtype, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("problem", ZOO, ids=str)
def test_no_silent_error_in_many_examples(problem: KnownProblem, device, dtype, record_property):
    run(problem, share(problem, MANY), device, dtype, record_property)
