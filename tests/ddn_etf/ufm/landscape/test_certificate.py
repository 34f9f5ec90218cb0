from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf.ufm import (
    LBFGS,
    CrossEntropy,
    FreeBias,
    MeanSquaredError,
    NoBias,
    RegularizedBias,
    ReLU,
    UnconstrainedFeatures,
    cross_entropy_minimum,
    mean_squared_error_minimum,
)
from ddn_etf.ufm.landscape import certify
from tests.ddn_etf.ufm.cases import (
    ONE_LAYER,
    at_minimum,
    cross_entropy_model,
    extended_model,
    name,
    squared_error_model,
    start,
)
from tests.ddn_etf.ufm.landscape.cases import saddle, zero


@pytest.mark.parametrize("case", ONE_LAYER, ids=name)
def test_minima_are_certified_exactly(case):
    model, minimum = case
    found = certify(model, at_minimum(model, minimum, seed=0))
    assert found.is_global
    assert found.lower_bound == pytest.approx(minimum.value, rel=1e-12)
    assert abs(found.gap) < 1e-14
    if minimum.is_trivial:
        assert found.margin > 0
    else:
        assert abs(found.margin) < 1e-14


@pytest.mark.parametrize("case", [case for case in ONE_LAYER if not case[1].is_trivial], ids=name)
def test_saddles_are_refuted(case):
    model, minimum = case
    for seed in range(3):
        found = certify(model, saddle(model, seed))
        assert found.is_critical
        assert not found.is_global
        assert found.margin < -0.1 * found.threshold
        assert found.lower_bound <= minimum.value + 1e-14


def test_gradient_at_zero_has_the_norm_of_the_theory():
    """‖∇g(0)‖₂ = 1/(K√n)."""
    model = cross_entropy_model()
    found = certify(model, zero(model))
    assert found.spectral_norm == pytest.approx(1 / (4 * math.sqrt(5)), rel=1e-12)
    assert found.is_critical


def test_small_gradient_alone_is_no_certificate():
    # A point with large margin has a small ∇g, but f is not stationary there.
    model = cross_entropy_model()
    found = certify(model, 10 * at_minimum(*ONE_LAYER[1]))
    assert found.margin > 0
    assert not found.is_critical
    assert not found.is_global


@st.composite
def points(draw):
    K, n, d = draw(st.integers(2, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 7))
    bias = draw(st.sampled_from([NoBias(), FreeBias(), RegularizedBias(0.01), RegularizedBias(10)]))
    loss = draw(st.sampled_from([CrossEntropy(), MeanSquaredError()]))
    decays = [10.0 ** draw(st.floats(-4, 0)) for _ in range(2)]
    model = UnconstrainedFeatures(
        num_classes=K,
        samples_per_class=n,
        dim=d,
        weight_decay_W=decays[0],
        weight_decay_H=decays[1],
        loss=loss,
        bias=bias,
    )
    minimum = (
        cross_entropy_minimum(K, n, *decays)
        if loss == CrossEntropy()
        else mean_squared_error_minimum(K, n, *decays, bias)
    )
    scale = 10.0 ** draw(st.floats(-3, 1))
    return model, minimum, start(model, draw(st.integers(0, 2**31)), scale)


@given(points())
def test_closed_forms_of_all_sizes_are_certified(case):
    model, minimum, _ = case
    model = replace(model, dim=model.num_classes + model.dim % 3)
    found = certify(model, at_minimum(model, minimum, seed=0))
    assert found.is_global
    assert found.value == pytest.approx(minimum.value, rel=1e-12)
    assert abs(found.gap) < 1e-12


@given(points())
def test_lower_bound_holds_everywhere(case):
    model, minimum, vector = case
    found = certify(model, vector)
    assert found.lower_bound <= minimum.value + 1e-12
    assert math.isfinite(found.lower_bound)
    assert found.value == model.objective(vector).item()


@pytest.mark.parametrize("case", ONE_LAYER, ids=name)
def test_gap_bounds_the_distance_to_the_minimum_on_the_way(case):
    model, minimum = case
    gaps = []
    for iterations in (5, 20, 80):
        found = LBFGS(max_iterations=iterations).minimize(model, start(model, 0))
        certificate = certify(model, found.vector)
        gaps.append(certificate.gap)
        assert certificate.gap >= found.value - minimum.value - 1e-13
    assert gaps[2] < 1e-3
    assert gaps[2] < gaps[0]


def test_bad_input():
    with pytest.raises(TypeError, match="two layers or ReLU"):
        certify(extended_model(), zero(extended_model()))
    rectified = squared_error_model(activation=ReLU())
    with pytest.raises(TypeError, match="two layers or ReLU"):
        certify(rectified, zero(rectified))
    model = cross_entropy_model()
    vector = zero(model)
    vector[3] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        certify(model, vector)
