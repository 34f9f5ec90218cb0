from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
    StepSchedule,
    positive_value,
)

values = st.floats(1e-6, 1e6)


@given(values, values, st.integers(1, 50), st.integers(0, 200))
def test_ramps_stay_between_their_ends_and_reach_them(start, end, steps, step):
    for make in (LinearSchedule, CosineSchedule):
        schedule = make(start, end, steps)
        assert schedule(0) == pytest.approx(start, rel=1e-12)
        assert schedule(steps + step) == end
        low, high = min(start, end), max(start, end)
        assert low * (1 - 1e-12) <= schedule(step) <= high * (1 + 1e-12)
        assert schedule(steps) == schedule(steps + 1)


def test_known_values():
    assert [LinearSchedule(1.0, 3.0, 4)(t) for t in range(6)] == [1.0, 1.5, 2.0, 2.5, 3.0, 3.0]
    cosine = CosineSchedule(0.0, 1.0, 6)
    expected = [0.5 - 0.5 * math.cos(math.pi * t / 6) for t in range(7)]
    assert [cosine(t) for t in range(7)] == pytest.approx(expected, rel=1e-12)
    step = StepSchedule(8.0, 0.5, [2, 3, 5])
    assert [step(t) for t in range(7)] == [8.0, 8.0, 4.0, 2.0, 2.0, 1.0, 1.0]
    assert ConstantSchedule(2.0)(7) == 2.0
    assert all(isinstance(s, Schedule) for s in (cosine, step, ConstantSchedule(2.0)))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        LinearSchedule(1.0, 2.0, 0)
    with pytest.raises(TypeError, match="steps must be an integer"):
        CosineSchedule(1.0, 2.0, 2.5)
    with pytest.raises(ValueError, match="milestones must increase"):
        StepSchedule(1.0, 0.1, [3, 2])
    with pytest.raises(ValueError, match="in step 3 of its schedule"):
        positive_value("rate", lambda step: -step, "of something", 3)


@pytest.mark.parametrize("value", [True, "5", None, [1.0]])
def test_what_is_no_number(value):
    for make in (
        ConstantSchedule,
        lambda v: LinearSchedule(v, 1.0, 2),
        lambda v: CosineSchedule(1.0, v, 2),
        lambda v: StepSchedule(1.0, v, [1]),
        lambda v: positive_value("tau", v, "the length"),
        lambda v: positive_value("tau", lambda step: v, "the length"),
    ):
        with pytest.raises(TypeError, match="must be a number, found"):
            make(value)
    with pytest.raises(TypeError, match="milestones must be a sequence"):
        StepSchedule(1.0, 0.1, 3)
    with pytest.raises(TypeError, match=r"milestones\[1\] must be an integer"):
        StepSchedule(1.0, 0.1, [1, 2.5])


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_ends_that_are_not_finite(value):
    for make in (ConstantSchedule, lambda v: LinearSchedule(1.0, v, 2)):
        with pytest.raises(ValueError, match="must be finite"):
            make(value)


def test_the_class_in_place_of_a_schedule():
    with pytest.raises(TypeError, match="found the class CosineSchedule; make an instance"):
        positive_value("tau", CosineSchedule, "the length")
