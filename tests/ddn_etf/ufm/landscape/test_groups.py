from __future__ import annotations

from dataclasses import astuple

from ddn_etf.ufm.landscape import Kind, classify
from ddn_etf.ufm.landscape.groups import PointRow, group_points, point_row
from tests.ddn_etf.ufm.cases import ONE_LAYER, at_minimum
from tests.ddn_etf.ufm.landscape.cases import saddle, zero


def test_points_that_are_alike_are_one_row():
    model, minimum = ONE_LAYER[1]
    points = [
        classify(model, zero(model), source="zero"),
        classify(model, at_minimum(model, minimum, seed=0), source="b"),
        classify(model, at_minimum(model, minimum, seed=1), source="a"),
        classify(model, saddle(model, 0), source="saddle"),
    ]
    groups = group_points(points)
    assert [group.count for group in groups] == [2, 1, 1]
    assert [group.kind for group in groups] == [Kind.GLOBAL_MINIMUM, *[Kind.STRICT_SADDLE] * 2]
    assert groups[0].sources == ("a", "b")
    assert groups[0].smallest_eigenvalue == max(p.smallest_eigenvalue for p in points[1:3])
    assert [group.value for group in groups] == sorted(group.value for group in groups)
    assert (groups[2].rank, groups[2].index) == (0, points[0].index)


def test_the_row_of_a_point():
    model, _ = ONE_LAYER[1]
    point = classify(model, zero(model), source="zero")
    row = point_row(point)
    assert isinstance(row, PointRow)
    assert astuple(row) == (
        "strict saddle",
        point.value,
        point.gradient_norm,
        point.certificate.spectral_norm / point.certificate.threshold - 1,
        point.certificate.gap,
        point.smallest_eigenvalue,
        point.index,
        0,
        "zero",
    )
