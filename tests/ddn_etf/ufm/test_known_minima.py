from __future__ import annotations

from dataclasses import replace

import pytest

from ddn_etf.ufm import (
    LBFGS,
    CrossEntropy,
    FreeBias,
    Linear,
    NoBias,
    RegularizedBias,
    ReLU,
    Standing,
    closed_form,
)
from tests.ddn_etf.ufm.cases import (
    EXTENDED,
    ONE_LAYER,
    cross_entropy_model,
    extended_model,
    name,
    squared_error_model,
    start,
)


@pytest.mark.parametrize("case", [*ONE_LAYER, EXTENDED], ids=name)
def test_the_minimum_of_linear_models(case):
    model, minimum = case
    found = closed_form(model)
    assert found.minimum == minimum
    assert float(found) == minimum.value
    assert found.standing is Standing.MINIMUM


@pytest.mark.parametrize(
    ("model", "standing"),
    [
        (cross_entropy_model(dim=3), Standing.MINIMUM),
        (cross_entropy_model(dim=2), Standing.LOWER_BOUND),
        (squared_error_model(FreeBias(), dim=3), Standing.MINIMUM),
        (squared_error_model(NoBias(), dim=3), Standing.LOWER_BOUND),
        (squared_error_model(NoBias(), activation=ReLU()), Standing.MINIMUM),
        (squared_error_model(FreeBias(), activation=ReLU()), Standing.LOWER_BOUND),
        (replace(cross_entropy_model(), activation=ReLU()), Standing.LOWER_BOUND),
        (
            squared_error_model(FreeBias(), decays=(0.5, 0.5), activation=ReLU()),
            Standing.MINIMUM,
        ),
        (extended_model(activation=ReLU()), Standing.ATTAINED),
        (replace(extended_model(), width=3), Standing.LOWER_BOUND),
    ],
    ids=str,
)
def test_what_solvers_reach_agrees_with_the_standing(model, standing):
    found = closed_form(model)
    assert found.standing is standing
    seeds = range(2 if standing is Standing.LOWER_BOUND else 6)
    best = min(LBFGS().minimize(model, start(model, seed)).value for seed in seeds)
    if standing is Standing.LOWER_BOUND:
        assert best > float(found) + 1e-4
    else:
        assert best == pytest.approx(float(found), abs=1e-8)


@pytest.mark.parametrize(
    "model",
    [
        extended_model(loss=CrossEntropy()),
        extended_model(bias=FreeBias()),
        extended_model(bias=RegularizedBias(0.1)),
        replace(extended_model(activation=ReLU()), width=3),
        squared_error_model(activation=lambda x: x.tanh()),
    ],
    ids=range(5),
)
def test_where_nothing_is_known(model):
    assert closed_form(model) is None


def test_another_loss_is_unknown():
    class Own(CrossEntropy):
        pass

    assert closed_form(replace(cross_entropy_model(), loss=Own())) is None
    assert closed_form(replace(cross_entropy_model(), activation=Linear())) is not None
