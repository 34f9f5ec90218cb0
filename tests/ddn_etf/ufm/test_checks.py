from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddn_etf import losses
from ddn_etf.errors import FrameSizeError
from ddn_etf.ufm import (
    LBFGS,
    CrossEntropy,
    ExtendedUnconstrainedFeatures,
    FreeBias,
    GradientDescent,
    Linear,
    MeanSquaredError,
    RegularizedBias,
    ReLU,
    TrustRegion,
    UnconstrainedFeatures,
    cross_entropy_minimum,
    extended_minimum,
    mean_squared_error_minimum,
)

SIZES = {"num_classes": 4, "samples_per_class": 5, "dim": 6}
ONE = {**SIZES, "weight_decay_W": 1e-3, "weight_decay_H": 1e-3}
TWO = {
    **SIZES,
    "width": 6,
    "weight_decay_W2": 1e-3,
    "weight_decay_W1": 1e-3,
    "weight_decay_H": 1e-3,
}
KINDS = [(UnconstrainedFeatures, ONE), (ExtendedUnconstrainedFeatures, TWO)]


@pytest.mark.parametrize(("kind", "good"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": CrossEntropy}, TypeError, r"loss is the class CrossEntropy.*CrossEntropy\(\)"),
        ({"loss": "mse"}, TypeError, r"loss is 'mse', .* a call.*MeanSquaredError\(\)"),
        ({"loss": losses.CrossEntropy()}, TypeError, "no conjugate, balance.*of ddn_etf.ufm"),
        ({"bias": FreeBias}, TypeError, r"bias is the class FreeBias.*FreeBias\(\)"),
        ({"bias": "free"}, TypeError, r"bias is 'free', .*FreeBias\(\)"),
        ({"bias": None}, TypeError, r"bias is None.*NoBias\(\) for b = 0"),
        ({"activation": ReLU}, TypeError, r"activation is the class ReLU.*ReLU\(\)"),
        ({"activation": "relu"}, TypeError, r"activation is 'relu'.*Linear\(\), ReLU\(\)"),
        ({"weight_decay_H": math.nan}, ValueError, "weight_decay_H .*positive number, found nan"),
        ({"weight_decay_H": -1e-3}, ValueError, "weight_decay_H .*found -0.001: without weight"),
        ({"weight_decay_H": math.inf}, ValueError, "weight_decay_H .*found inf"),
        ({"weight_decay_H": "1e-3"}, TypeError, r"weight_decay_H .*a number, found '1e-3' \(str\)"),
        ({"weight_decay_H": True}, TypeError, "weight_decay_H must be a number, found True"),
        ({"samples_per_class": 0}, ValueError, "samples_per_class is 0.*use at least 1"),
        ({"samples_per_class": -1}, ValueError, "samples_per_class must be at least 0, found -1"),
        ({"samples_per_class": 2.0}, TypeError, "samples_per_class must be an integer, found 2.0"),
        ({"num_classes": 1}, FrameSizeError, "num_classes is 1.*at least 2"),
        ({"num_classes": 4.0}, TypeError, "num_classes must be an integer"),
        ({"num_classes": "4"}, TypeError, "num_classes must be an integer, found '4'"),
        ({"dim": 0}, ValueError, "dim must be at least 1, found 0"),
        ({"dim": 6.5}, TypeError, "dim must be an integer, found 6.5"),
    ],
)
def test_a_model_is_refused(kind, good, change, error, message):
    kind(**good)
    with pytest.raises(error, match=message):
        kind(**{**good, **change})


def test_numbers_of_numpy_are_numbers():
    model = UnconstrainedFeatures(**{**ONE, "weight_decay_W": np.float32(1e-3)})
    vector = torch.zeros(model.size, dtype=torch.float64)
    assert model.objective(vector).item() == pytest.approx(math.log(4), rel=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cross_entropy_minimum(4, 5, "a", 1e-3), TypeError, "weight_decay_W"),
        (lambda: cross_entropy_minimum(4, 5, 1e-3, math.nan), ValueError, "found nan"),
        (lambda: mean_squared_error_minimum(4, 5, 1e-3, None), TypeError, "found None"),
        (
            lambda: mean_squared_error_minimum(4, 5, 1e-3, 1e-3, RegularizedBias),
            TypeError,
            "the class RegularizedBias",
        ),
        (lambda: extended_minimum(4, 0, 1e-3, 1e-3, 1e-3), ValueError, "samples_per_class is 0"),
        (lambda: RegularizedBias(math.nan), ValueError, "found nan"),
        (lambda: RegularizedBias("0.1"), TypeError, "weight_decay of the bias"),
        (lambda: GradientDescent("1"), TypeError, "learning_rate"),
        (lambda: GradientDescent(math.nan), ValueError, "learning_rate"),
        (lambda: GradientDescent(1.0, momentum=math.nan), ValueError, "momentum"),
        (lambda: GradientDescent(1.0, max_iterations=2.5), TypeError, "max_iterations"),
        (lambda: LBFGS(memory=0), ValueError, "memory must be at least 1"),
        (lambda: TrustRegion(max_iterations=1.0), TypeError, "max_iterations"),
    ],
)
def test_bad_numbers_of_minima_and_solvers(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_the_last_layer_sees():
    """predict() is features times weight, with the activation in the features."""
    for kind, good in KINDS:
        for activation in (Linear(), ReLU()):
            model = kind(**good, loss=MeanSquaredError(), activation=activation)
            parts = model.split(model.random_start(torch.Generator().manual_seed(0)))
            features, weight = model.last_layer(parts)
            assert features.shape[0] == model.num_samples
            assert weight.shape == (4, features.shape[1])
            assert (features >= 0).all().item() is (activation == ReLU())
            assert torch.equal(features @ weight.mT, model.predict(parts))
