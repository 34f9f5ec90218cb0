from __future__ import annotations

import math

import pytest

from ddn_etf.figures import iterations_figure


def drawn(axes, name, marker):
    [line] = [x for x in axes.lines if x.get_label() == name and x.get_marker() == marker]
    return list(line.get_ydata())


def test_a_dot_per_run_and_a_line_at_the_median():
    [axes] = iterations_figure({"a": [5, 3, 4], "b": [7]}, 100).axes
    assert drawn(axes, "a", "o") == [5, 3, 4]
    assert drawn(axes, "b", "o") == [7]
    medians = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
    assert medians == [4, 7]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("head", "iterations")


def test_equal_counts_stay_beside_each_other():
    [axes] = iterations_figure({"a": [5, 5, 5]}, 100).axes
    [dots] = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(dots.get_xdata()) == pytest.approx([-0.24, 0.0, 0.24])


def test_runs_that_did_not_get_there_are_crosses_at_the_limit():
    [axes] = iterations_figure({"a": [5, math.inf, math.inf]}, 100).axes
    assert drawn(axes, "a", "o") == [5]
    assert drawn(axes, "a", "x") == [100, 100]
