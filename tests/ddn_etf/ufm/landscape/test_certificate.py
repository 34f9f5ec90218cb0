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
    GradientDescent,
    MeanSquaredError,
    NoBias,
    RegularizedBias,
    ReLU,
    TrustRegion,
    UnconstrainedFeatures,
    cross_entropy_minimum,
    mean_squared_error_minimum,
)
from ddn_etf.ufm.landscape import Kind, certify, classify
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


def near_the_border(Kq, K=4, n=5):
    """Cross entropy with K√(nλ_Wλ_H) = Kq: zero is the minimum from 1 on, and a saddle below."""
    decay = Kq / K / math.sqrt(n)
    model = UnconstrainedFeatures(
        num_classes=K,
        samples_per_class=n,
        dim=6,
        weight_decay_W=decay,
        weight_decay_H=decay,
        bias=FreeBias(),
    )
    return model, cross_entropy_minimum(K, n, decay, decay)


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 5e-5, 1e-5, 2e-6])
def test_zero_just_below_the_border_is_no_minimum(distance):
    model, minimum = near_the_border(1 - distance)
    found = certify(model, zero(model))
    assert found.is_critical
    assert found.excess == pytest.approx(distance / (1 - distance), rel=1e-6)
    assert not found.is_global
    assert classify(model, zero(model)).kind is Kind.STRICT_SADDLE
    # The bound holds all the same, and is of second order.
    assert 0 < found.value - minimum.value <= found.gap + 1e-15
    assert found.gap < distance**2 * 10
    assert certify(model, at_minimum(model, minimum, seed=0)).is_global


@pytest.mark.parametrize("distance", [0.0, 1e-6, 5e-5, 1e-2])
def test_zero_above_the_border_is_the_minimum(distance):
    model, minimum = near_the_border(1 + distance)
    found = certify(model, zero(model))
    assert found.is_global
    assert abs(found.gap) < 1e-14
    assert found.value == pytest.approx(minimum.value, rel=1e-14)


def test_nearer_to_the_border_than_the_tolerance_the_value_is_still_guaranteed():
    model, minimum = near_the_border(1 - 5e-7)
    found = certify(model, zero(model))
    assert found.is_global
    assert found.value - minimum.value <= found.gap + 1e-15 < 1e-12
    assert not certify(model, zero(model), tolerance=1e-7).is_global


def test_a_looser_tolerance_does_not_replace_the_bound():
    """At a saddle with an excess of 10 %, a tolerance of as much is not enough: its gap is larger."""
    model, minimum = near_the_border(0.5)
    found = certify(model, zero(model), tolerance=0.05)
    assert found.gap > 0.05 * found.value
    generous = certify(model, zero(model), tolerance=1.5)
    assert generous.is_global
    assert generous.value <= (1 + 1.5) * minimum.value


@pytest.mark.parametrize("solver", [LBFGS(), TrustRegion(), GradientDescent(0.5, 0.95)], ids=str)
@pytest.mark.parametrize("case", ONE_LAYER[:3], ids=name)
def test_what_solvers_find_is_certified_at_the_default_tolerances(case, solver):
    model, minimum = case
    found = certify(model, solver.minimize(model, start(model, 0)).vector)
    assert found.is_global
    assert found.gap >= found.value - minimum.value - 1e-14


@pytest.mark.parametrize("name", ["tolerance", "gradient_tolerance"])
@pytest.mark.parametrize("value", [0.0, -1e-6, math.nan])
def test_a_tolerance_is_a_positive_number(name, value):
    model = cross_entropy_model()
    with pytest.raises(ValueError, match=f"{name} must be a positive number"):
        certify(model, zero(model), **{name: value})
