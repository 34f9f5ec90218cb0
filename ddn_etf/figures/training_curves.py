"""What was measured against the epoch: median over the seeds, their range shaded."""

from __future__ import annotations

from dataclasses import dataclass

from ddn_etf._extras import optional_import
from ddn_etf.compare import TARGET_ACCURACIES, Comparison, curve, over_seeds
from ddn_etf.figures.style import colour, tidy

with optional_import("train", "The figure of a comparison"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

__all__ = ["comparison_figure"]


@dataclass(frozen=True)
class _Panel:
    """One set of axes; the train split is drawn solid, the test split dashed."""

    title: str
    unit: str
    quantity: str
    logarithmic: bool = False
    coincident: bool = False  # Lines may coincide: those below are drawn wider.


_PANELS = (
    _Panel("Loss", "loss per sample", "loss", logarithmic=True),
    _Panel("Accuracy", "per cent", "accuracy"),
    _Panel("NC1: spread within classes", "NC1", "NC1", logarithmic=True),
    _Panel("NC2: classifier against simplex ETF", "NC2", "NC2", coincident=True),
    _Panel("NC3: classifier against class means", "NC3", "NC3", logarithmic=True),
)


def comparison_figure(comparison: Comparison) -> Figure:
    """Loss, accuracy, NC1, NC2 and NC3 against the epoch, for both splits.

    One line per head and split: the median over the seeds, with their range shaded.

    Args:
        comparison: the outcome of all runs.

    Returns:
        A figure that is not attached to any window; see :func:`ddn_etf.figures.png`.
    """
    figure = Figure(figsize=(12.0, 6.8), layout="constrained")
    grid = figure.subplots(2, 3).flatten()
    for axes, panel in zip(grid, _PANELS, strict=False):
        for number in range(len(comparison.methods)):
            _draw(axes, comparison, number, panel, "train", "-")
            if panel.quantity != "NC2":  # The classifier is the same for both splits.
                _draw(axes, comparison, number, panel, "test", "--")
        _style(axes, comparison, panel)
    _legend(grid[-1], comparison)
    figure.suptitle(
        f"{comparison.dataset}: {over_seeds(comparison)}, range shaded",
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
    )
    return figure


def _draw(
    axes: Axes, comparison: Comparison, number: int, panel: _Panel, split: str, style: str
) -> None:
    """The line of one head and split: median, with the range over the seeds."""
    head = comparison.methods[number].name
    spreads = curve(comparison, head, f"{split}_{panel.quantity}")
    epochs = range(1, len(spreads) + 1)
    low = [each.low for each in spreads]
    median = [each.median for each in spreads]
    high = [each.high for each in spreads]
    lines_above = len(comparison.methods) - 1 - number
    axes.fill_between(epochs, low, high, color=colour(number), alpha=0.13, linewidth=0)
    axes.plot(
        epochs,
        median,
        color=colour(number),
        linestyle=style,
        linewidth=1.6 + (0.7 * lines_above if panel.coincident else 0),
        # A single epoch would leave no line to see.
        marker="o" if len(spreads) == 1 else "",
    )


def _style(axes: Axes, comparison: Comparison, panel: _Panel) -> None:
    tidy(axes, panel.title, "epoch", panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.set_xlim(1, max(2, comparison.settings.epochs))
    if panel.logarithmic and _has_positive_values(comparison, panel.quantity):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if panel.quantity == "accuracy":
        _focus_on_high_accuracy(axes, comparison)


def _has_positive_values(comparison: Comparison, quantity: str) -> bool:
    """Whether a logarithmic scale has anything to show; NC3 of two classes, for example, is 0."""
    return any(
        record.values[f"{split}_{quantity}"] > 0
        for record in comparison.records
        for split in ("train", "test")
    )


def _focus_on_high_accuracy(axes: Axes, comparison: Comparison) -> None:
    """Leave out the first epochs' low values, which would flatten everything that follows."""
    later = [
        record.values[f"{split}_accuracy"]
        for record in comparison.records
        for split in ("train", "test")
        if record.epoch >= min(3, comparison.settings.epochs)
    ]
    bottom = min(TARGET_ACCURACIES[0], *later)
    axes.set_ylim(bottom - 0.1 * (100 - bottom), 100 + 0.05 * (100 - bottom))
    axes.axhline(TARGET_ACCURACIES[0], color="#666666", linewidth=0.9, linestyle=":")


def _legend(axes: Axes, comparison: Comparison) -> None:
    """Use the free sixth panel to say what the lines are."""
    axes.axis("off")
    heads = [
        Line2D([], [], color=colour(number), linewidth=2.4, label=method.title)
        for number, method in enumerate(comparison.methods)
    ]
    lines = [
        Line2D([], [], color="#444444", linestyle="-", label="train split"),
        Line2D([], [], color="#444444", linestyle="--", label="test split"),
        Line2D(
            [],
            [],
            color="#666666",
            linestyle=":",
            label=f"{TARGET_ACCURACIES[0]:g} % (the target for train accuracy)",
        ),
    ]
    axes.legend(handles=heads + lines, loc="center left", frameon=False, fontsize=11)
