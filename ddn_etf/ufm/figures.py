"""Figures of unconstrained features: the way of solvers down, and critical points by their evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ddn_etf._extras import optional_import
from ddn_etf.figures.style import colour, tidy
from ddn_etf.ufm.landscape.critical_points import CriticalPoint, Kind

with optional_import("train", "A figure of unconstrained features"):
    from matplotlib.figure import Figure

__all__ = ["critical_points_figure", "descent_figure"]

_MARKERS = {Kind.GLOBAL_MINIMUM: "o", Kind.STRICT_SADDLE: "x", Kind.UNDECIDED: "s"}


def descent_figure(
    histories: Mapping[int, Sequence[float]],
    reference: float | None,
    *,
    title: str = "Values on the way down",
) -> Figure:
    """f - f* against the step, a line per start, on a logarithmic scale.

    Args:
        histories: f at the start and after every step, by seed; empty for a run that diverged.
        reference: f*; None where it is not known, and f itself is drawn.
        title: above the figure.

    Returns:
        A figure that is not attached to any window.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (seed, values) in enumerate(histories.items()):
        # Rounding may take a value below the minimum; a logarithm cannot show it.
        heights = [v if reference is None else max(v - reference, 1e-17) for v in values]
        axes.plot(range(len(heights)), heights, color=colour(number), lw=1, label=f"seed {seed}")
    axes.set_yscale("log")
    tidy(axes, title, "step", "f" if reference is None else "f − f*")
    if 0 < len(histories) <= 10:
        axes.legend(frameon=False, fontsize=8)
    return figure


def critical_points_figure(
    points: Sequence[CriticalPoint], *, title: str = "Critical points"
) -> Figure:
    """Each critical point at its value and the smallest eigenvalue of its Hessian, marked by its kind.

    Args:
        points: of a :class:`ddn_etf.ufm.landscape.StrictSaddleReport`.
        title: above the figure.

    Returns:
        A figure that is not attached to any window.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (kind, marker) in enumerate(_MARKERS.items()):
        chosen = [point for point in points if point.kind is kind]
        if chosen:
            axes.plot(
                [point.value for point in chosen],
                [point.smallest_eigenvalue for point in chosen],
                color=colour(number),
                marker=marker,
                linestyle="",
                label=kind.value,
            )
    axes.axhline(0, color="0.6", lw=0.8)
    tidy(axes, title, "f", "smallest eigenvalue of the Hessian")
    if points:
        axes.legend(frameon=False, fontsize=8)
    return figure
