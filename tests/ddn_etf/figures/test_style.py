from __future__ import annotations

from matplotlib.figure import Figure

from ddn_etf.figures.style import COLOURS, colour, png, tidy


def test_colours_start_again():
    assert [colour(number) for number in range(len(COLOURS))] == list(COLOURS)
    assert colour(len(COLOURS)) == COLOURS[0]
    assert len(set(COLOURS)) == len(COLOURS)


def test_tidy_names_everything():
    axes = Figure().subplots()
    tidy(axes, "title", "x (m)", "y (s)")
    found = (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel())
    assert found == ("title", "x (m)", "y (s)")


def test_equal_figures_give_equal_bytes():
    first, second = Figure(), Figure()
    assert png(first) == png(second)
    assert png(first).startswith(b"\x89PNG")
