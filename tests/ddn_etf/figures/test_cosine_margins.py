from __future__ import annotations

import numpy as np
import torch
from numpy.testing import assert_allclose

from ddn_etf.figures import cosine_margin_figure
from ddn_etf.figures.style import COLOURS


def test_each_curve_is_the_sorted_margins_against_per_cent():
    margins = {"a": torch.tensor([0.3, -0.2, 1.0, 0.5]), "b": torch.tensor([0.1])}
    [axes] = cosine_margin_figure(margins, 10).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert_allclose(lines["a"].get_ydata(), [-0.2, 0.3, 0.5, 1.0], rtol=1e-6)
    assert_allclose(lines["a"].get_xdata(), [12.5, 37.5, 62.5, 87.5])
    assert_allclose(lines["b"].get_xdata(), [50.0])
    assert lines["a"].get_color() == COLOURS[0]
    assert lines["b"].get_color() == COLOURS[1]
    assert lines["a"].get_linestyle() != lines["b"].get_linestyle()


def test_collapse_is_marked_and_axes_are_named():
    [axes] = cosine_margin_figure({"a": torch.zeros(3)}, 5).axes
    [line] = [line for line in axes.lines if "collapse" in str(line.get_label())]
    assert_allclose(np.unique(line.get_ydata()), [1.25])
    assert axes.get_xlabel().endswith("(%)")
    assert axes.get_ylabel() == "cosine margin"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "collapse, 1.25"]
