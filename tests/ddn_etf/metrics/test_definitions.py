from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn_etf import metrics
from ddn_etf.frames import simplex_etf
from ddn_etf.metrics import SplitStatistics, neural_collapse
from tests.ddn_etf.metrics.cases import TOLERANCE, collapsed, load, splits
from tests.ddn_etf.metrics.definitions import naive_metrics


@given(splits())
def test_agrees_with_the_definitions(device, split):
    features, labels, weight, _ = split
    between = SplitStatistics.from_features(
        torch.tensor(features), torch.tensor(labels), len(weight)
    ).deviations
    sigma = torch.linalg.svdvals(between)[: min(between.shape[0], between.shape[1] - 1)]
    assume(sigma[-1] > 1e-2 * sigma[0])  # the pseudo-inverse of a covariance loses digits
    expected = naive_metrics(*split)
    found = neural_collapse(*(torch.tensor(x, device=device) for x in split))
    exists = features.shape[1] >= len(weight) - 1
    for name, value in expected.items():
        if name.endswith("etf_distance") and not exists:
            assert found[name].isnan()
            continue
        wanted = torch.tensor(value, dtype=torch.float64)
        assert_close(found[name].cpu(), wanted, rtol=TOLERANCE.reference, atol=1e-9, msg=name)


@given(splits())
def test_etf_distance_is_the_distance_between_the_nearest_etfs(split):
    features, labels, weight, _ = map(torch.tensor, split)
    d, K = features.shape[1], len(weight)
    assume(d >= K - 1)
    H = SplitStatistics.from_features(features, labels, K).deviations
    found = neural_collapse(features, labels, weight, reference=H)
    frames = [metrics.nearest_simplex_etf(matrix) for matrix in (weight.mT, H)]
    for frame, matrix in zip(frames, (weight.mT, H), strict=True):
        gram = simplex_etf(K, K, dtype=torch.float64)
        assert_close(frame.mT @ frame, gram @ gram.mT / K)
        # No small rotation of the frame brings it nearer.
        best = metrics.squared_distance(matrix, frame)
        turn = torch.linalg.matrix_exp(0.05 * (A := torch.randn(d, d).double()) - 0.05 * A.mT)
        assert metrics.squared_distance(matrix, turn @ frame) >= best - 1e-12
    assert_close(found["etf_distance"], (frames[0] - frames[1]).square().sum())
    reference = H / H.norm()
    assert_close(found["weight_reference_distance"], (frames[0] - reference).square().sum())
    assert_close(found["feature_reference_distance"], found["feature_etf_distance"])


@pytest.mark.parametrize(("K", "d"), [(4, 6), (4, 4), (4, 3), (2, 1), (10, 64)])
def test_values_at_collapse(device, K, d):
    found = neural_collapse(*collapsed(K, d, device=device), reference=simplex_etf(K, d).mT)
    expected = dict.fromkeys(found, 0.0)
    expected |= {"numerical_rank": 1.0, "cosine_margin": K / (K - 1), "accuracy": 100.0}
    margins = found.pop("cosine_margins")
    assert_close(margins, torch.full_like(margins, K / (K - 1)))
    for name, value in found.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-12, abs=1e-12), name


@given(splits(), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
def test_what_does_not_depend_on_offset_and_scale(split, offset, scale):
    features, labels, weight, _ = map(torch.tensor, split)
    K, d = weight.shape
    # Offset and scale that float64 represents exactly leave nothing but the arithmetic.
    offset, scale = float(round(offset)), 2.0 ** round(np.log2(scale))
    features = features.float().double().mul(2**20).round().div(2**20)
    first = neural_collapse(features, labels, weight)
    second = neural_collapse(features * scale + scale * offset, labels, weight)
    names = ["NC1", "VCI", "NC3", "equinorm_features", "cosine_margins", "feature_etf_distance"]
    for name in names:
        # The data are the same numbers, so the offset must cost no digits.
        assert_close(second[name], first[name], rtol=1e-8, atol=1e-8, equal_nan=d < K - 1, msg=name)


def test_results_are_float64_scalars_without_graph(device):
    features, labels, weight, bias = load("random_imbalanced_K5_d8_N50", device)
    weight = torch.nn.Parameter(weight.float())
    found = neural_collapse(features.float().requires_grad_(), labels.int(), weight, bias.float())
    for name, value in found.items():
        assert value.dtype == torch.float64
        assert value.device.type == device.type
        assert not value.requires_grad
        assert value.shape == ((50,) if name == "cosine_margins" else ()), name
    exact = neural_collapse(
        features.float().double(), labels, weight.detach().double(), bias.float().double()
    )
    for name, value in exact.items():
        assert torch.equal(found[name], value), name


def test_no_bias_is_a_bias_of_zeros(device):
    features, labels, weight, _ = load("random_imbalanced_K5_d8_N50", device)
    without = neural_collapse(features, labels, weight)
    zeros = neural_collapse(features, labels, weight, torch.zeros(5, device=device))
    for name, value in without.items():
        assert torch.equal(zeros[name], value), name


def test_each_metric_is_a_function(device):
    features, labels, weight, bias = load("random_imbalanced_K5_d8_N50", device)
    found = neural_collapse(features, labels, weight, bias)
    split = SplitStatistics.from_features(features, labels, 5)
    alone = {
        "NC1": metrics.nc1(split),
        "VCI": metrics.variability_collapse_index(split),
        "NC2": metrics.nc2(weight),
        "NC3": metrics.nc3(split, weight),
        "NC4": metrics.nc4(split, weight, bias),
        "equinorm_features": metrics.equinorm(split.deviations),
        "equinorm_weights": metrics.equinorm(weight.mT),
        "numerical_rank": metrics.numerical_rank(split),
        "cosine_margin": metrics.cosine_margins(split, weight).mean(),
        "NCC_mismatch": metrics.ncc_mismatch(split, weight, bias),
        "accuracy": metrics.accuracy(split, weight, bias),
        "weight_etf_distance": metrics.distance_to_nearest_etf(weight.mT),
        "feature_etf_distance": metrics.distance_to_nearest_etf(split.deviations),
    }
    for name, value in alone.items():
        assert_close(value, found[name], rtol=1e-14, atol=0, msg=name)


def test_reference_norm_does_not_matter():
    features, labels, weight, _ = load("random_imbalanced_K5_d8_N50")
    reference = simplex_etf(5, 8, dtype=torch.float64).mT
    names = ["weight_reference_distance", "feature_reference_distance"]
    values = [
        [neural_collapse(features, labels, weight, reference=scale * reference)[n] for n in names]
        for scale in (1, 7)
    ]
    assert_close(*values)
    assert not set(names) & neural_collapse(features, labels, weight).keys()
