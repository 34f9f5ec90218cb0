from __future__ import annotations

import pytest
import torch

from ddn_etf.ufm import LBFGS, FreeBias
from ddn_etf.ufm.landscape import Kind, classify, strict_saddle_report
from ddn_etf.ufm.landscape.search import (
    DEFAULT_SEARCHES,
    FewerFeatures,
    GradientNorm,
    MergedClasses,
    solve_stationarity,
)
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
def test_minima(case):
    model, minimum = case
    found = classify(model, at_minimum(model, minimum, seed=0))
    assert found.kind is Kind.GLOBAL_MINIMUM
    assert found.index == 0
    assert found.value == pytest.approx(minimum.value, rel=1e-12)


def test_zero_is_a_strict_saddle_of_known_index():
    """At zero ∇²f couples W and H by ∇g alone: one negative eigenvalue per singular value and axis."""
    model = squared_error_model()
    found = classify(model, zero(model))
    assert found.kind is Kind.STRICT_SADDLE
    assert (found.rank, found.index) == (0, 4 * 6)
    assert found.value == 0.5


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_partly_collapsed_saddles_of_the_squared_error(rank):
    """Z = (1-c) Π for a projection Π of rank r: r/K of the way from ½ to the minimum."""
    model, minimum = squared_error_model(), ONE_LAYER[3][1]
    parts = minimum.minimizer(model.dim)._asdict()
    keep = torch.zeros(4, dtype=torch.float64)
    keep[:rank] = 1
    parts = {**parts, "W": keep[:, None] * parts["W"], "H": keep[model.labels(), None] * parts["H"]}
    found = classify(model, model.join(parts))
    assert found.kind is Kind.STRICT_SADDLE
    assert found.rank == rank
    # K - r singular values are left for each of the d - r free axes.
    assert found.index == (4 - rank) * (6 - rank)
    expected = 0.5 + rank / 4 * (minimum.value - 0.5)
    assert found.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("search", [*DEFAULT_SEARCHES[:6]], ids=lambda search: search.name)
def test_searches_find_critical_points(search):
    model = cross_entropy_model()
    vector = search.find(model, torch.Generator().manual_seed(0))
    assert model.value_and_gradient(vector)[1].norm() < 1e-10


def test_rank_of_fewer_features_and_groups_of_merged_classes():
    model = cross_entropy_model()
    assert classify(model, saddle(model, 0, FewerFeatures())).rank in (1, 2)
    parts = model.split(saddle(model, 0, MergedClasses()))
    cosines = torch.cdist(parts["W"], parts["W"])
    assert (cosines < 1e-6).sum() > 4


def test_report_has_no_third_kind():
    model, minimum = cross_entropy_model(FreeBias()), ONE_LAYER[1][1]
    report = strict_saddle_report(model, 12)
    assert len(report.points) == 12
    assert report.attempts >= 12
    assert report.counterexamples == ()
    saddles = report.of_kind(Kind.STRICT_SADDLE)
    assert len(saddles) + len(report.of_kind(Kind.GLOBAL_MINIMUM)) == 12
    assert report.distinct_values() >= 5
    assert len({point.index for point in saddles}) >= 4
    for point in saddles:
        assert point.value > minimum.value + 1e-4
        assert point.smallest_eigenvalue < -1e-4
        assert point.index > 0
    assert {point.source for point in report.points} == {s.name for s in DEFAULT_SEARCHES}
    again = strict_saddle_report(model, 3)
    # The last bit depends on where LAPACK finds its matrices in memory.
    expected = [point.value for point in report.points[:3]]
    assert [point.value for point in again.points] == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("model", [cross_entropy_model(FreeBias()), squared_error_model()], ids=str)
def test_a_hundred_critical_points(model):
    report = strict_saddle_report(model, 100, seed=1)
    assert len(report.points) == 100
    assert report.counterexamples == ()
    assert len(report.of_kind(Kind.STRICT_SADDLE)) >= 50
    assert report.distinct_values() >= 4


def test_third_kind_would_be_seen():
    """With d = 1 < K - 1 theory says nothing: the minimum is a critical point of neither kind."""
    model = squared_error_model(FreeBias(), dim=1)
    runs = [LBFGS().minimize(model, start(model, seed)) for seed in range(4)]
    lowest = min(runs, key=lambda run: run.value).vector
    point = classify(model, solve_stationarity(model, lowest))
    assert point.kind is Kind.UNDECIDED
    assert (point.rank, point.index) == (1, 0)
    assert point.certificate.margin < -0.1 * point.certificate.threshold


def test_points_are_told_as_they_are_found():
    seen = []
    report = strict_saddle_report(cross_entropy_model(), 3, on_point=seen.append)
    assert tuple(seen) == report.points


def test_no_more_searches_than_allowed():
    model = cross_entropy_model()
    report = strict_saddle_report(model, 5, searches=[GradientNorm(30.0)], max_attempts=2)
    assert report.attempts <= 2


def test_bad_input():
    model = cross_entropy_model()
    with pytest.raises(ValueError, match=r"the gradient has norm .* no critical point"):
        classify(model, start(model, 0))
    with pytest.raises(TypeError, match="two layers or ReLU"):
        classify(extended_model(), zero(extended_model()))
    with pytest.raises(ValueError, match="no search given"):
        strict_saddle_report(model, 1, searches=[])
    with pytest.raises(TypeError, match="search is the class GradientNorm"):
        strict_saddle_report(model, 1, searches=[GradientNorm])
    for change in ({"count": 0}, {"max_attempts": 0}):
        with pytest.raises(ValueError, match="must be at least 1, found 0"):
            strict_saddle_report(model, **change)
    with pytest.raises(ValueError, match="eigenvalue_tolerance must be a positive number"):
        classify(model, zero(model), eigenvalue_tolerance=-1.0)
