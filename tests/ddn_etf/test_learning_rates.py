from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf import learning_rates, schedules
from ddn_etf.learning_rates import SCHEDULES, Constant, Cosine, find_schedule


def test_constant():
    assert [Constant().factor(epoch, 3) for epoch in range(3)] == [1.0, 1.0, 1.0]
    assert not Constant().depends_on_epochs


def test_cosine_by_hand():
    assert [Cosine().factor(epoch, 4) for epoch in range(4)] == pytest.approx(
        [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )
    assert Cosine().depends_on_epochs


def test_warm_up_rises_then_the_cosine_starts_at_its_top():
    factors = [Cosine(warm_up_epochs=2).factor(epoch, 6) for epoch in range(6)]
    assert factors[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, (1 + math.sqrt(0.5)) / 2])


@given(st.integers(1, 300), st.integers(0, 20))
def test_cosine_never_rises_after_warm_up_and_stays_positive(epochs, warm_up):
    factors = [Cosine(warm_up).factor(epoch, epochs) for epoch in range(epochs)]
    assert all(0 < factor <= 1 for factor in factors)
    assert all(a >= b for a, b in zip(factors[warm_up:], factors[warm_up + 1 :], strict=False))


def test_names():
    assert list(SCHEDULES) == ["constant", "cosine"]
    assert find_schedule("cosine") == Cosine()
    with pytest.raises(ValueError, match="unknown schedule 'step'; known schedules: constant, co"):
        find_schedule("step")
    with pytest.raises(ValueError, match="warm_up_epochs must be at least 0"):
        Cosine(-1)
    for wrong in (1.5, True):
        with pytest.raises(TypeError, match="warm_up_epochs must be an integer"):
            Cosine(wrong)
    with pytest.raises(TypeError, match="looked up by its name"):
        find_schedule(Cosine)


def test_the_two_kinds_of_schedules_have_different_names():
    assert "Schedule" not in learning_rates.__all__
    assert not {*learning_rates.__all__} & {*schedules.__all__}
