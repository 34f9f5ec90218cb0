from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf import metrics
from ddn_etf.errors import FeatureError, LabelError
from ddn_etf.hierarchy import Hierarchy
from tests.ddn_etf.hierarchy.cases import UNEVEN
from tests.tolerances import TOLERANCES

TOLERANCE = TOLERANCES[torch.float64]
REFERENCE = json.loads(
    (Path(__file__).parents[2] / "reference_values_hierarchy.json").read_text("utf-8")
)["mistake_metrics"]
D = torch.tensor(REFERENCE["hdist"])
LABELS = torch.tensor(REFERENCE["targets"])
LOGITS = torch.tensor(REFERENCE["logits"], dtype=torch.float64)


def test_reference_values(device):
    scores, labels, distances = LOGITS.to(device), LABELS.to(device), D.to(device)
    expected = REFERENCE["argmax"]
    found = metrics.hierarchical_metrics(scores, labels, distances)
    assert found["accuracy"].item() == pytest.approx(expected["top1"], rel=TOLERANCE.reference)
    severity = metrics.mistake_severity(scores, labels, distances)
    assert severity.item() == pytest.approx(expected["mistake"], rel=TOLERANCE.reference)
    for k in (1, 5):
        distance = metrics.hierarchical_distance(scores, labels, distances, k)
        assert distance.item() == pytest.approx(expected[f"hie_avg_{k}"], rel=TOLERANCE.reference)
    assert list(found) == ["accuracy", "mistake_severity", "hd@1", "hp@1", "hd@5", "hp@5"]
    for name, value in found.items():
        assert value.dtype == torch.float64, name
        assert value.shape == ()


@st.composite
def cases(draw):
    names = Hierarchy.from_mapping(UNEVEN).leaf_names
    K = draw(st.integers(2, 7))
    hierarchy = Hierarchy.from_mapping(UNEVEN).select(names[:K])
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    N = draw(st.integers(1, 12))
    scores = generator.normal(size=(N, K)).round(1)  # rounded, so that some are equal
    return scores, generator.integers(0, K, size=N), hierarchy.distances.numpy()


@given(cases())
def test_agrees_with_the_definitions(case):
    scores, labels, D = case
    N, K = scores.shape
    severities, correct = [], 0
    for row, y in zip(scores, labels, strict=True):
        best = max(range(K), key=lambda c: (row[c], -c))
        correct += best == y
        if best != y:
            severities.append(D[best, y])
    found = metrics.hierarchical_metrics(*map(torch.tensor, case), ks=range(1, 9))
    assert found["accuracy"].item() == pytest.approx(100 * correct / N)
    if severities:
        assert found["mistake_severity"].item() == pytest.approx(np.mean(severities))
    else:
        assert found["mistake_severity"].isnan()
    for k in range(1, K + 1):
        distances, precisions = [], []
        for row, y in zip(scores, labels, strict=True):
            top = sorted(range(K), key=lambda c: (-row[c], c))[:k]
            distances.append(np.mean([D[c, y] for c in top]))
            best = sum(sorted(1 - D[:, y] / D.max(), reverse=True)[:k])
            precisions.append(sum(1 - D[c, y] / D.max() for c in top) / best)
        assert found[f"hd@{k}"].item() == pytest.approx(np.mean(distances))
        assert found[f"hp@{k}"].item() == pytest.approx(np.mean(precisions))
    assert f"hd@{K + 1}" not in found


@given(cases())
def test_identities(case):
    scores, labels, D = map(torch.tensor, case)
    found = metrics.hierarchical_metrics(scores, labels, D, ks=(1, len(D)))
    wrong = 1 - found["accuracy"] / 100
    severity = torch.nan_to_num(found["mistake_severity"])
    assert_close(found["hd@1"], wrong * severity)
    assert_close(found["hp@1"], 1 - found["hd@1"] / D.max())
    # All classes are among the K best.
    assert_close(found[f"hd@{len(D)}"], D[:, labels].mean())
    assert_close(found[f"hp@{len(D)}"].item(), 1.0)


def test_the_best_possible_scores():
    D = Hierarchy.from_mapping(UNEVEN).distances
    labels = torch.arange(7).repeat(3)
    for k in range(1, 8):
        assert metrics.hierarchical_precision(-D[labels], labels, D, k) == 1
    assert metrics.mistake_severity(-D[labels], labels, D).isnan()
    assert metrics.hierarchical_distance(-D[labels], labels, D) == 0


def test_conditional_risk():
    risk = metrics.conditional_risk(LOGITS, D)
    p = softmax(LOGITS.numpy(), axis=1)
    expected = [[sum(D[c, j].item() * row[j] for j in range(6)) for c in range(6)] for row in p]
    assert_close(risk, torch.tensor(np.array(expected)))
    # With 0-1 costs the least risk is the largest probability.
    equal = 1 - torch.eye(6)
    assert torch.equal(metrics.conditional_risk(LOGITS, equal).argmin(1), LOGITS.argmax(1))
    assert metrics.conditional_risk(1e4 * LOGITS, D).isfinite().all()


def test_conditional_risk_of_asymmetric_costs():
    costs = torch.tensor([[0.0, 5.0], [1.0, 0.0]])  # to predict 0 for a 1 costs 5
    even = torch.zeros(1, 2)
    assert metrics.conditional_risk(even, costs).tolist() == [[2.5, 0.5]]
    assert metrics.mistake_severity(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), costs) == 5


def test_expected_cost_is_least_for_the_least_risk():
    """For labels drawn from the softmax itself no prediction costs less on average."""
    p = LOGITS.softmax(dim=1)
    least = metrics.conditional_risk(LOGITS, D).argmin(dim=1)

    def cost(choice):
        return (p * D.double()[choice]).sum(dim=1)

    for choice in range(6):
        assert (cost(least) <= cost(torch.full_like(least, choice)) + 1e-12).all()


@pytest.mark.parametrize(
    "metric",
    [
        metrics.mistake_severity,
        metrics.hierarchical_distance,
        metrics.hierarchical_precision,
        metrics.hierarchical_metrics,
    ],
)
def test_bad_input(metric):
    with pytest.raises(ShapeError, match=r"scores must have shape \(N, 6\)"):
        metric(LOGITS[:, :5], LABELS, D)
    with pytest.raises(ShapeError, match=r"distances must have shape \(K, K\)"):
        metric(LOGITS, LABELS, D[:4])
    with pytest.raises(LabelError, match=r"labels\[2\] is 6"):
        metric(LOGITS, LABELS.clone().index_fill_(0, torch.tensor([2]), 6), D)
    with pytest.raises(DtypeError, match="integer class indices"):
        metric(LOGITS, LABELS.double(), D)
    with pytest.raises(DtypeError, match="scores must hold real floating-point"):
        metric(LOGITS.long(), LABELS, D)
    spoiled = LOGITS.clone()
    spoiled[3, 1] = torch.nan
    with pytest.raises(FeatureError, match="scores holds NaN or infinity, first in row 3"):
        metric(spoiled, LABELS, D)
    with pytest.raises(FeatureError, match="batch is empty"):
        metric(LOGITS[:0], LABELS[:0], D)
    with pytest.raises(FeatureError, match=r"distances\[0, 1\] is -1"):
        metric(LOGITS, LABELS, -D)


def test_k_out_of_range():
    for metric in (metrics.hierarchical_distance, metrics.hierarchical_precision):
        with pytest.raises(ValueError, match="k must be at least 1"):
            metric(LOGITS, LABELS, D, 0)
        with pytest.raises(ValueError, match="k is 7 and there are 6 classes"):
            metric(LOGITS, LABELS, D, 7)
    with pytest.raises(ValueError, match="distances are all zero"):
        metrics.hierarchical_precision(LOGITS, LABELS, 0 * D)


def test_distances_of_any_kind():
    expected = metrics.hierarchical_metrics(LOGITS, LABELS, D)
    risk = metrics.conditional_risk(LOGITS, D)
    for distances in (D.numpy(), D.tolist(), D.int(), D.double().numpy()):
        found = metrics.hierarchical_metrics(LOGITS, LABELS, distances)
        assert found == expected
        assert torch.equal(metrics.conditional_risk(LOGITS, distances), risk)
    with pytest.raises(TypeError, match=r"matrix of real numbers, .* hierarchy\.distances"):
        metrics.mistake_severity(LOGITS, LABELS, Hierarchy.from_distances(D))
    with pytest.raises(DtypeError, match=r"scores must be a tensor, found ndarray; .*as_tensor"):
        metrics.mistake_severity(LOGITS.numpy(), LABELS, D)
    with pytest.raises(DtypeError, match="labels must be a tensor, found ndarray"):
        metrics.mistake_severity(LOGITS, LABELS.numpy(), D)


def test_sizes_of_sets_that_are_none():
    with pytest.raises(TypeError, match="ks must be a sequence"):
        metrics.hierarchical_metrics(LOGITS, LABELS, D, 5)
    with pytest.raises(TypeError, match="k must be an integer"):
        metrics.hierarchical_metrics(LOGITS, LABELS, D, (1, 2.5))
    with pytest.raises(ValueError, match="k must be at least 1"):
        metrics.hierarchical_metrics(LOGITS, LABELS, D, (0,))


def test_a_class_that_is_like_none():
    with pytest.raises(ValueError, match="class 0 is at the largest distance from all classes"):
        metrics.hierarchical_precision(LOGITS, LABELS, torch.ones(6, 6))
