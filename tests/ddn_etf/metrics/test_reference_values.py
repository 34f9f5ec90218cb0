from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ddn_etf import metrics
from ddn_etf.metrics import SplitStatistics, neural_collapse
from tests.ddn_etf.metrics.cases import REFERENCE, SPLITS, TOLERANCE, load
from tests.ddn_etf.metrics.definitions import exact_variability_collapse_index

#: Our names and those of the reference values.
NAMES = {
    "NC1": "NC1",
    "NC2": "ETF_metric",
    "NC3": "WH_relation",
    "NC4": "Wh_b_relation",
    "equinorm_features": "H_equinorm",
    "equinorm_weights": "W_equinorm",
    "equinorm_difference": "WH_equinorm_diff",
    "numerical_rank": "numerical_rank",
    "cosine_margin": "avg_cos_margin",
    "cosine_margins": "all_cos_margin_sorted",
    "NCC_mismatch": "NCC_mismatch",
    "accuracy": "top1",
}


@pytest.mark.parametrize("split", SPLITS)
def test_reference_values(device, split):
    found = neural_collapse(*load(split, device))
    for name, reference in NAMES.items():
        expected = torch.tensor(SPLITS[split]["expected"][reference], dtype=torch.float64)
        assert_close(found[name].cpu(), expected, rtol=TOLERANCE.reference, atol=1e-14, msg=name)


@pytest.mark.parametrize("split", SPLITS)
def test_variability_collapse_index_against_rational_arithmetic(device, split):
    inputs = SPLITS[split]["inputs"]
    found = neural_collapse(*load(split, device))["VCI"].item()
    exact = exact_variability_collapse_index(inputs["features"], inputs["labels"], len(inputs["W"]))
    assert found == pytest.approx(exact, rel=TOLERANCE.reference)
    # The reference comes from a pseudo-inverse, with an error of eps times the condition number.
    T = np.array(SPLITS[split]["Sigma_W"]) + np.array(SPLITS[split]["Sigma_B"])
    reference = SPLITS[split]["expected"]["VCI"]
    assert found == pytest.approx(reference, abs=np.finfo(float).eps * np.linalg.cond(T))


@pytest.mark.parametrize("split", SPLITS)
def test_statistics_of_the_reference(device, split):
    features, labels, weight, _ = load(split, device)
    found = SplitStatistics.from_features(features, labels, len(weight))

    def expected(name):
        return torch.tensor(SPLITS[split][name], dtype=torch.float64, device=device)

    close = {"rtol": TOLERANCE.reference, "atol": 1e-14}
    assert_close(found.global_mean, expected("mu_G"), **close)
    assert_close(found.class_means, expected("class_means").mT, **close)
    H, A = found.deviations, found.within
    assert_close(H @ H.mT / len(weight), expected("Sigma_B"), **close)
    assert_close(A.mT @ A / len(features), expected("Sigma_W"), **close)


@pytest.mark.parametrize("case", REFERENCE["nearest_etf"], ids=lambda case: f"d{case['d']}")
def test_nearest_simplex_etf_of_the_reference(device, case):
    Y = torch.tensor(case["Y"], dtype=torch.float64, device=device)
    K, expected = case["K"], case["expected"]
    distance = metrics.distance_to_nearest_etf(Y)
    assert distance.item() == pytest.approx(expected["ETF_distance_sq"], rel=TOLERANCE.reference)
    PM = torch.tensor(expected["PM_noprox"], dtype=torch.float64, device=device)
    nearest = metrics.nearest_simplex_etf(Y)
    assert_close(nearest, PM / (K - 1) ** 0.5, rtol=0, atol=TOLERANCE.reference)
