from __future__ import annotations

import pytest
import torch

from ddn.errors import DtypeError, ShapeError
from ddn_etf import metrics
from ddn_etf.errors import FeatureError, FrameSizeError, LabelError
from ddn_etf.metrics import SplitStatistics, neural_collapse
from tests.ddn_etf.metrics.cases import collapsed


def test_fewer_dimensions_than_a_simplex_etf_needs():
    features, labels, weight = torch.randn(40, 3), torch.arange(40) % 8, torch.randn(8, 3)
    found = neural_collapse(features, labels, weight, reference=torch.randn(3, 8))
    undefined = {name for name, value in found.items() if value.isnan().any()}
    assert undefined == {name for name in found if name.endswith("_distance")}
    with pytest.raises(FrameSizeError, match="dim is 3"):
        metrics.distance_to_nearest_etf(weight.mT)


def test_equal_class_means():
    """Nothing between the classes: NC1 has no value, the index says that all is within."""
    features = torch.randn(5, 4).double().repeat(2, 1)
    labels = torch.tensor([0] * 5 + [1] * 5)
    found = neural_collapse(torch.zeros(10, 4), labels, torch.randn(2, 4))
    assert found["NC1"].isnan()
    assert found["VCI"] == 1
    assert found["numerical_rank"] == 0
    assert found["cosine_margin"] == 0
    assert found["feature_etf_distance"].isnan()
    assert found["etf_distance"].isnan()
    assert neural_collapse(features, labels, torch.randn(2, 4))["VCI"] > 0.99


def test_two_equal_means_leave_the_nearest_etf_open():
    features, labels, weight = collapsed()
    features = torch.where((labels == 1).unsqueeze(1), features[0], features)
    found = neural_collapse(features, labels, weight)
    assert found["etf_distance"].isnan()
    assert 0 < found["feature_etf_distance"] < 2
    assert found["NC1"] == pytest.approx(0, abs=1e-14)


def test_zero_weight():
    features, labels, weight = collapsed()
    found = neural_collapse(features, labels, torch.zeros_like(weight))
    undefined = {name for name, value in found.items() if value.isnan().any()}
    assert undefined == {
        "NC2",
        "NC3",
        "equinorm_weights",
        "equinorm_difference",
        "weight_etf_distance",
        "etf_distance",
    }


def spoiled(matrix, value=torch.nan):
    matrix = matrix.clone()
    matrix[2, 1] = value
    return matrix


BAD_ARGUMENTS = {
    "NaN features": ("features", spoiled, FeatureError, "row 2"),
    "infinite features": ("features", lambda h: spoiled(h, torch.inf), FeatureError, "row 2"),
    "no samples": ("all", lambda h, y: (h[:0], y[:0]), FeatureError, "empty"),
    "integer features": ("features", lambda h: h.int(), DtypeError, "floating-point"),
    "feature vector": ("features", lambda h: h[0], ShapeError, "shape"),
    "absent class": ("labels", lambda y: y.where(y != 3, 0), LabelError, r"1 of 4 .*\(3\)"),
    "label too large": ("labels", lambda y: y + 1, LabelError, r"labels\[3\] is 4"),
    "float labels": ("labels", lambda y: y.float(), DtypeError, "integer"),
    "too few labels": ("labels", lambda y: y[:-1], ShapeError, r"\(20,\)"),
    "NaN weight": ("weight", spoiled, FeatureError, "weight .* row 2"),
    "integer weight": ("weight", lambda W: W.int(), DtypeError, "weight"),
    "list weight": ("weight", lambda W: W.tolist(), DtypeError, "weight"),
    "transposed weight": ("weight", lambda W: W.mT, ShapeError, r"weight .*\(any, 6\)"),
    "one class": ("weight", lambda W: W[:1], FrameSizeError, "at least 2"),
    "NaN bias": ("bias", lambda b: b * torch.nan, FeatureError, "bias"),
    "wrong bias": ("bias", lambda b: b[:2], ShapeError, r"bias .*\(4,\)"),
    "matrix bias": ("bias", lambda b: b[None], ShapeError, r"bias .*\(4,\)"),
    "list bias": ("bias", lambda b: b.tolist(), DtypeError, "bias"),
    "transposed reference": ("reference", lambda r: r.mT, ShapeError, r"reference .*\(6, 4\)"),
    "NaN reference": ("reference", spoiled, FeatureError, "reference"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(device, name):
    which, spoil, error, message = BAD_ARGUMENTS[name]
    features, labels, weight = collapsed(device=device)
    arguments = {"features": features, "labels": labels, "weight": weight}
    arguments |= {"bias": torch.zeros(4, device=device), "reference": weight.mT}
    if which == "all":
        arguments["features"], arguments["labels"] = spoil(features, labels)
    else:
        arguments[which] = spoil(arguments[which])
    with pytest.raises(error, match=message):
        neural_collapse(**arguments)


def test_many_absent_classes_are_not_all_listed():
    with pytest.raises(LabelError, match=r"98 of 100 .*\(2, 3, .*, 11, \.\.\.\)"):
        SplitStatistics.from_features(torch.randn(2, 3), torch.tensor([0, 1]), 100)


def test_features_in_place_of_their_statistics():
    features, labels, weight = collapsed()
    for metric in (metrics.nc3, metrics.nc4, metrics.accuracy, metrics.ncc_mismatch):
        with pytest.raises(TypeError, match=r"found Tensor; take them with SplitStatistics\.from"):
            metric(features, weight)
    for metric in (metrics.nc1, metrics.variability_collapse_index, metrics.numerical_rank):
        with pytest.raises(TypeError, match="statistics of a split are needed"):
            metric(features)
    assert metrics.nc1(SplitStatistics.from_features(features, labels, 4)) < 1e-12


def test_frames_that_cannot_be_compared():
    weight = torch.randn(6, 4)
    with pytest.raises(ShapeError, match=r"found second of shape \(6, 1\)"):
        metrics.squared_distance(weight, weight[:, :1])
    with pytest.raises(ShapeError, match="found first of shape"):
        metrics.squared_distance(weight[0], weight[0])
    with pytest.raises(DtypeError, match="second must be a tensor, found ndarray"):
        metrics.squared_distance(weight, weight.numpy())


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_the_size_of_frames_does_not_matter(scale):
    """Squares of such numbers over- and underflow."""
    generator = torch.Generator().manual_seed(0)
    weight, other = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    close = {"rtol": 1e-12, "atol": 1e-14}
    for metric in (
        metrics.nc2,
        metrics.equinorm,
        metrics.distance_to_nearest_etf,
        metrics.nearest_simplex_etf,
        lambda W: metrics.squared_distance(W, other),
        lambda W: metrics.squared_distance(other, W),
    ):
        torch.testing.assert_close(metric(scale * weight), metric(weight), **close)
    features, labels, _ = collapsed()
    statistics = SplitStatistics.from_features(features, labels, 4)
    W = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        metrics.nc3(statistics, scale * W), metrics.nc3(statistics, W), **close
    )


def test_tensors_without_values():
    with pytest.raises(DtypeError, match="weight lies on the meta device"):
        metrics.nc2(torch.ones(3, 3, device="meta"))
