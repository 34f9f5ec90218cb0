from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from ddn_etf.metrics import SplitStatistics, nc2, nc3
from ddn_etf.ufm import (
    LBFGS,
    FreeBias,
    GradientDescent,
    NoBias,
    ReLU,
    TrustRegion,
    mean_squared_error_minimum,
)
from tests.ddn_etf.ufm.cases import (
    EXTENDED,
    ONE_LAYER,
    K,
    cross_entropy_model,
    extended_model,
    n,
    name,
    squared_error_model,
    start,
)

#: The value that every start must reach, to within this.
VALUE = 1e-8
STRUCTURE = 1e-6
STARTS = range(8)


@pytest.mark.parametrize("case", [*ONE_LAYER, EXTENDED], ids=name)
@pytest.mark.parametrize(
    ("solver", "starts"),
    [(LBFGS(), STARTS), (TrustRegion(), STARTS[:2])],
    ids=lambda value: type(value).__name__,
)
def test_global_minimum_from_random_starts(case, solver, starts):
    model, minimum = case
    for seed in starts:
        found = solver.minimize(model, start(model, seed))
        assert found.gradient_norm < 3e-8
        assert found.value == pytest.approx(minimum.value, abs=VALUE)
        assert found.value >= minimum.value - 1e-15
        check_structure(model, minimum, found.vector)


def check_structure(model, minimum, vector):
    """The frame of the closed form, up to a rotation of the features."""
    found = model.split(vector)
    expected = minimum.minimizer(model.dim)
    close = {"rtol": STRUCTURE, "atol": STRUCTURE}
    within = found["H"].view(K, n, -1)
    assert_close(within, within.mean(dim=1, keepdim=True).expand_as(within), **close)
    assert_close(found["H"] @ found["H"].mT, expected.H @ expected.H.mT, **close)
    if "W" in found:
        assert_close(found["W"] @ found["W"].mT, expected.W @ expected.W.mT, **close)
        assert_close(found["H"] @ found["W"].mT, expected.H @ expected.W.mT, **close)
    if "b" in found:
        # Cross entropy does not see a constant in a free bias.
        shift = (found["b"] - expected.b).mean() if model.bias == FreeBias() else 0.0
        assert_close(found["b"] - shift, expected.b, **close)


@pytest.mark.parametrize("case", [case for case in ONE_LAYER if not case[1].is_trivial], ids=name)
def test_gradient_descent(case):
    model, minimum = case
    # The largest learning rate is about 2/L; unregularised biases and flat losses need many steps.
    found = GradientDescent(0.5, momentum=0.95, tolerance=1e-7).minimize(model, start(model, 0))
    assert found.converged
    assert found.value == pytest.approx(minimum.value, abs=VALUE)


def test_collapse_in_the_metrics_of_the_package():
    model = cross_entropy_model(FreeBias())
    found = model.split(TrustRegion().minimize(model, start(model, 0)).vector)
    assert nc2(found["W"]) < STRUCTURE
    statistics = SplitStatistics.from_features(found["H"], model.labels(), K)
    assert nc3(statistics, found["W"]) < STRUCTURE


def test_rectified_features_reach_the_orthogonal_frame():
    """‖ReLU(H)‖ <= ‖H‖, so nothing is below the linear minimum; the frame may be chosen >= 0."""
    model = squared_error_model(activation=ReLU())
    minimum = mean_squared_error_minimum(K, n, 4e-3, 2e-3, NoBias())
    values = [LBFGS().minimize(model, start(model, seed)).value for seed in STARTS]
    assert min(values) == pytest.approx(minimum.value, abs=VALUE)
    assert min(values) >= minimum.value - 1e-15


def test_best_run_of_the_rectified_extended_model():
    model, minimum = extended_model(activation=ReLU()), EXTENDED[1]
    parts = minimum.minimizer(model.dim, model.width)._asdict()
    assert model.objective(model.join(parts)).item() == pytest.approx(minimum.value, rel=1e-12)
    runs = [LBFGS().minimize(model, start(model, seed)) for seed in STARTS]
    best = min(runs, key=lambda run: run.value)
    assert best.value == pytest.approx(minimum.value, abs=VALUE)
    # Others stop at worse local minima.
    assert max(run.value for run in runs) > minimum.value + 1e-3
    parts = model.split(best.vector)
    frame = (parts["H"] @ parts["W1"].mT).relu()[::n]
    gram = frame @ frame.mT
    assert_close(gram, gram[0, 0] * torch.eye(K).double(), rtol=1e-5, atol=1e-5)


def test_trust_region_leaves_a_saddle():
    model, minimum = cross_entropy_model(), ONE_LAYER[1][1]
    at_zero = torch.zeros(model.size, dtype=torch.float64)
    assert model.value_and_gradient(at_zero)[1].norm() < 1e-15
    found = TrustRegion().minimize(model, at_zero + 1e-4 * start(model, 0))
    assert found.value == pytest.approx(minimum.value, abs=VALUE)


def test_history_and_limits():
    model = squared_error_model()
    descent = GradientDescent(0.1, momentum=0.0, max_iterations=7)
    for solver in (descent, LBFGS(max_iterations=7), TrustRegion(max_iterations=2)):
        first = start(model, 0)
        before = first.clone()
        found = solver.minimize(model, first)
        assert torch.equal(first, before)
        assert not found.converged
        assert len(found.history) == found.iterations + 1
        assert found.history[0] == model.objective(first).item()
        assert found.history[-1] < found.history[0]
        assert found.gradient_norm == model.value_and_gradient(found.vector)[1].norm().item()


def test_gradient_descent_in_single_precision():
    model = squared_error_model()
    first = start(model, 0).float()
    found = GradientDescent(0.5, max_iterations=50).minimize(model, first)
    assert found.vector.dtype == torch.float32


def test_divergence_is_an_error():
    model = squared_error_model()
    with pytest.raises(FloatingPointError, match=r"use a learning rate below 1000"):
        GradientDescent(1e3).minimize(model, start(model, 0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GradientDescent(0.0), "learning_rate"),
        (lambda: GradientDescent(1.0, momentum=1.0), "momentum"),
        (lambda: LBFGS(tolerance=math.nan), "tolerance"),
        (lambda: TrustRegion(max_iterations=0), "max_iterations"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()
