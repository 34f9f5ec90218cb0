from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ddn_etf.compare import curve
from ddn_etf.figures import comparison_figure, png


@pytest.fixture(scope="module")
def figure(comparison):
    return comparison_figure(comparison)


def panel(figure, start):
    [axes] = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(start)]
    return axes


@pytest.mark.parametrize(
    ("start", "quantity"), [("Loss", "loss"), ("Acc", "accuracy"), ("NC1", "NC1"), ("NC3", "NC3")]
)
def test_a_line_per_head_and_split_is_the_median(figure, comparison, start, quantity):
    lines = [line for line in panel(figure, start).lines if len(line.get_xdata()) == 2]
    drawn = [tuple(line.get_ydata()) for line in lines]
    for method in comparison.methods:
        for split in ("train", "test"):
            points = curve(comparison, method.name, f"{split}_{quantity}")
            assert tuple(point.median for point in points) in drawn


def test_the_shade_is_the_range(figure, comparison):
    shades = panel(figure, "NC1").collections
    assert len(shades) == 6
    points = curve(comparison, "linear", "train_NC1")
    vertices = shades[0].get_paths()[0].vertices
    at_the_end = vertices[vertices[:, 0] == 2, 1]
    assert_allclose((np.min(at_the_end), np.max(at_the_end)), (points[1].low, points[1].high))


def test_the_classifier_has_one_line_per_head(figure, comparison):
    assert len(panel(figure, "NC2").lines) == len(comparison.methods)


def test_the_legend_names_all_heads(figure, comparison):
    [legend] = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:3] == [method.title for method in comparison.methods]
    assert {"train split", "test split"} < set(texts)


def test_png_is_an_image_and_always_the_same(comparison, figure):
    picture = png(figure)
    assert picture.startswith(b"\x89PNG\r\n")
    assert picture == png(comparison_figure(comparison))


def test_a_single_epoch_can_be_drawn(comparison):
    first = tuple(record for record in comparison.records if record.epoch == 1)
    short = replace(comparison, records=first, settings=replace(comparison.settings, epochs=1))
    figure = comparison_figure(short)
    assert all(line.get_marker() == "o" for line in panel(figure, "NC1").lines)
    assert png(figure)


def test_all_axes_are_named(figure):
    drawn = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(drawn) == 5
    for axes in drawn:
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel()


def test_a_quantity_that_is_always_zero_has_a_linear_axis(comparison):
    records = tuple(
        replace(r, values=r.values | {"train_NC3": 0.0, "test_NC3": 0.0})
        for r in comparison.records
    )
    figure = comparison_figure(replace(comparison, records=records))
    assert panel(figure, "NC3").get_yscale() == "linear"
    assert panel(figure, "NC1").get_yscale() == "log"
    assert png(figure)
