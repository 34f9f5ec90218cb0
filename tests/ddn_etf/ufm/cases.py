"""Models whose global minimum is known, and points of them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ddn_etf.ufm import (
    CrossEntropy,
    ExtendedUnconstrainedFeatures,
    FreeBias,
    MeanSquaredError,
    NoBias,
    RegularizedBias,
    UnconstrainedFeatures,
    cross_entropy_minimum,
    extended_minimum,
    mean_squared_error_minimum,
)

REFERENCE = json.loads((Path(__file__).parent / "reference_values.json").read_text("utf-8"))

K, n, d = 4, 5, 6
BIASES = (NoBias(), FreeBias(), RegularizedBias(0.05), RegularizedBias(0.02))


def cross_entropy_model(bias=FreeBias(), dim=d, decays=(5e-3, 1e-3)):
    return UnconstrainedFeatures(
        num_classes=K,
        samples_per_class=n,
        dim=dim,
        weight_decay_W=decays[0],
        weight_decay_H=decays[1],
        bias=bias,
        loss=CrossEntropy(),
    )


def squared_error_model(bias=NoBias(), dim=d, decays=(4e-3, 2e-3), **options):
    return UnconstrainedFeatures(
        num_classes=K,
        samples_per_class=n,
        dim=dim,
        weight_decay_W=decays[0],
        weight_decay_H=decays[1],
        bias=bias,
        loss=MeanSquaredError(),
        **options,
    )


def extended_model(**options):
    return ExtendedUnconstrainedFeatures(
        num_classes=K,
        samples_per_class=n,
        dim=d,
        width=7,
        weight_decay_W2=2e-3,
        weight_decay_W1=1e-3,
        weight_decay_H=2e-3,
        **options,
    )


def one_layer_cases():
    """(model, its minimum), for every loss and every bias."""
    for bias in (NoBias(), FreeBias(), RegularizedBias(0.01)):
        yield cross_entropy_model(bias), cross_entropy_minimum(K, n, 5e-3, 1e-3)
    for bias in BIASES:
        yield squared_error_model(bias), mean_squared_error_minimum(K, n, 4e-3, 2e-3, bias)


ONE_LAYER = [
    *one_layer_cases(),
    # Weight decay so strong that zero is the minimum.
    (cross_entropy_model(decays=(0.5, 0.5)), cross_entropy_minimum(K, n, 0.5, 0.5)),
    (squared_error_model(decays=(0.5, 0.5)), mean_squared_error_minimum(K, n, 0.5, 0.5)),
    (
        squared_error_model(FreeBias(), decays=(0.5, 0.5)),
        mean_squared_error_minimum(K, n, 0.5, 0.5, FreeBias()),
    ),
]
EXTENDED = (extended_model(), extended_minimum(K, n, 2e-3, 1e-3, 2e-3))


def name(case):
    model, minimum = case
    trivial = ", trivial" if minimum.is_trivial else ""
    return f"{type(model.loss).__name__}, {model.bias}{trivial}"


def at_minimum(model, minimum, seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    sizes = [model.dim] + ([model.width] if hasattr(model, "width") else [])
    return model.join(minimum.minimizer(*sizes, generator=generator)._asdict())


def start(model, seed, scale=1.0):
    return model.random_start(torch.Generator().manual_seed(seed), scale)
