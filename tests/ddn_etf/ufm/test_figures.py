from __future__ import annotations

import numpy as np
import pytest

from ddn_etf.figures import png
from ddn_etf.ufm.figures import critical_points_figure, descent_figure
from ddn_etf.ufm.landscape import classify
from tests.ddn_etf.ufm.cases import ONE_LAYER, at_minimum
from tests.ddn_etf.ufm.landscape.cases import zero


@pytest.mark.parametrize("reference", [None, 0.5])
def test_descent(reference):
    figure = descent_figure({0: (2.0, 1.0, 0.5), 7: (), 9: (3.0,)}, reference)
    lines = figure.axes[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[0, 1, 2], [], [0]]
    expected = [2.0, 1.0, 0.5] if reference is None else [1.5, 0.5, 1e-17]
    np.testing.assert_allclose(lines[0].get_ydata(), expected)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "seed 0",
        "seed 7",
        "seed 9",
    ]
    assert png(figure).startswith(b"\x89PNG")


def test_critical_points():
    model, minimum = ONE_LAYER[1]
    points = [classify(model, zero(model)), classify(model, at_minimum(model, minimum))]
    axes = critical_points_figure(points).axes[0]
    places = {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines[:2]
    }
    assert places == {
        "global minimum": (points[1].value, points[1].smallest_eigenvalue),
        "strict saddle": (points[0].value, points[0].smallest_eigenvalue),
    }
    assert critical_points_figure([]).axes
