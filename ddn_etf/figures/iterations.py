"""How many steps each method needed: a dot per run, a line at the median."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from ddn_etf._extras import optional_import
from ddn_etf.figures.style import colour, tidy

with optional_import("train", "A figure of iterations"):
    from matplotlib.figure import Figure

__all__ = ["iterations_figure"]


def iterations_figure(
    runs: Mapping[str, Sequence[float]], limit: float, *, title: str = "Iterations to the gap"
) -> Figure:
    """One column per method, one dot per run, and a line at the median of the column.

    Args:
        runs: iterations by method; infinite for a run that did not get there, which is drawn as a
            cross at ``limit``.
        limit: iterations after which runs were given up.
        title: above the figure.

    Returns:
        A figure that is not attached to any window.
    """
    figure = Figure(figsize=(1.8 + 1.7 * len(runs), 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, counts) in enumerate(runs.items()):
        # Beside each other, so that equal counts stay as many dots.
        width = 0.48 / max(1, len(counts) - 1)
        places = [number + width * (k - (len(counts) - 1) / 2) for k in range(len(counts))]
        reached = [(x, y) for x, y in zip(places, counts, strict=True) if math.isfinite(y)]
        missed = [(x, limit) for x, y in zip(places, counts, strict=True) if not math.isfinite(y)]
        for points, marker in ((reached, "o"), (missed, "x")):
            axes.plot(
                *_columns(points), color=colour(number), marker=marker, linestyle="", label=name
            )
        median = min(statistics.median(counts), limit)
        axes.plot([number - 0.35, number + 0.35], [median, median], color=colour(number))
    tidy(axes, title, "head", "iterations")
    axes.set_xticks(range(len(runs)), list(runs))
    axes.set_xlim(-0.6, len(runs) - 0.4)
    axes.set_ylim(bottom=0)
    return figure


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
