"""What all figures share: colours, and the way into a file."""

from __future__ import annotations

import io

from ddn_etf._extras import optional_import

with optional_import("train", "A figure"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "colour", "png", "tidy"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""Okabe and Ito (2008): colours that people with any colour vision tell apart. Yellow is left out
because thin lines of it vanish on white."""


def colour(number: int) -> str:
    """The colour of the line of this number; they start again after the last."""
    return COLOURS[number % len(COLOURS)]


def png(figure: Figure, *, dots_per_inch: int = 130) -> bytes:
    """The figure as a PNG file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


def tidy(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, names of the axes, a light grid, and no box around the data."""
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, which="major", color="#d9d9d9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
