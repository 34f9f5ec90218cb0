from __future__ import annotations

import math

import pytest
import torch

from ddn_etf.metrics import neural_collapse
from ddn_etf.ufm import LBFGS, FreeBias, GradientDescent, ReLU, minimize_once
from ddn_etf.ufm.landscape import certify
from tests.ddn_etf.ufm.cases import (
    EXTENDED,
    ONE_LAYER,
    K,
    cross_entropy_model,
    squared_error_model,
    start,
)


def test_a_row_by_its_definition():
    model, minimum = ONE_LAYER[1]
    run, history = minimize_once(model, LBFGS(), 3)
    found = LBFGS().minimize(model, start(model, 3))
    assert (run.seed, run.value, run.iterations) == (3, found.value, found.iterations)
    assert history == found.history
    assert run.excess == found.value - minimum.value
    certificate = certify(model, found.vector)
    assert run.is_global is True
    assert run.gap == certificate.gap
    assert run.spectral_excess == certificate.excess
    parts = model.split(found.vector)
    expected = neural_collapse(parts["H"], model.labels(), parts["W"], parts["b"])
    for name in ("NC1", "NC2", "NC3", "NC4"):
        assert getattr(run, name) == expected[name].item()


def test_no_certificate_for_two_layers_and_relu():
    for model in (EXTENDED[0], squared_error_model(activation=ReLU())):
        run, _ = minimize_once(model, LBFGS(), 0)
        assert (run.spectral_excess, run.gap, run.is_global) == (None, None, None)
        assert run.excess is not None


def test_metrics_of_two_layers_are_those_of_the_last_one():
    model, minimum = EXTENDED
    run, _ = minimize_once(model, LBFGS(), 0)
    assert run.value == pytest.approx(minimum.value, abs=1e-8)
    # An orthogonal frame: W Wᵀ/‖·‖ = I/√K is (1/√K - (K-1)/(K√(K-1)), ...) away from a simplex.
    M = torch.eye(K).double() - 1 / K
    distance = (torch.eye(K).double() / K**0.5 - M / (K - 1) ** 0.5).norm().item()
    assert pytest.approx(distance, abs=1e-5) == run.NC2
    assert run.NC1 < 1e-8


def test_a_run_that_diverges_is_a_row_too():
    run, history = minimize_once(cross_entropy_model(FreeBias()), GradientDescent(1e9), 0)
    assert math.isnan(run.value)
    assert (run.iterations, run.converged, run.excess, history) == (None, False, None, ())


def test_a_run_that_is_stopped_early_is_not_certified():
    run, _ = minimize_once(cross_entropy_model(FreeBias()), LBFGS(max_iterations=10), 0)
    assert (run.converged, run.is_global, run.iterations) == (False, False, 10)
    assert run.gap >= run.excess > 0


def test_bad_input():
    model = cross_entropy_model()
    with pytest.raises(ValueError, match="scale must be a positive number"):
        minimize_once(model, LBFGS(), 0, scale=0.0)
    with pytest.raises(TypeError, match="seed must be an integer"):
        minimize_once(model, LBFGS(), 0.5)
