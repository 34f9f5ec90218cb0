"""How far every sample is from another class: the distribution of the cosine margins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ddn_etf._extras import optional_import
from ddn_etf.figures.style import colour, tidy

with optional_import("train", "A figure of cosine margins"):
    from matplotlib.figure import Figure

__all__ = ["cosine_margin_figure"]


def cosine_margin_figure(margins: Mapping[str, Tensor], num_classes: int) -> Figure:
    """The sorted cosine margins of each classifier, and the value K/(K-1) that collapse would give.

    The curve at p per cent is the margin that p per cent of the samples do not exceed. Where it
    is below 0, the sample is closer in angle to another class's weight than to its own.

    Args:
        margins: by name, for the legend; (N,) each, from
            :func:`ddn_etf.metrics.cosine_margins`.
        num_classes: K.

    Returns:
        A figure that is not attached to any window.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(margins.items()):
        ordered = np.sort(values.detach().cpu().double().numpy())
        percent = 100 * (np.arange(len(ordered)) + 0.5) / len(ordered)
        axes.plot(
            percent,
            ordered,
            color=colour(number),
            linewidth=1.8,
            linestyle=("-", "--", "-.", ":")[number % 4],
            label=name,
        )
    collapse = num_classes / (num_classes - 1)
    axes.axhline(
        collapse, color="#666666", linewidth=0.9, linestyle=":", label=f"collapse, {collapse:.3g}"
    )
    axes.axhline(0, color="#666666", linewidth=0.9)
    tidy(axes, "Cosine margins", "samples, sorted by margin (%)", "cosine margin")
    axes.set_xlim(0, 100)
    axes.legend(frameon=False)
    return figure
