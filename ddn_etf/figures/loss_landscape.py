"""A slice through a function of many parameters, around a point where its gradient is zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf._extras import optional_import
from ddn_etf.figures.style import colour, tidy

with optional_import("train", "A figure of a loss landscape"):
    from matplotlib.figure import Figure

__all__ = ["LandscapeSlice", "landscape_figure", "landscape_slice"]


@dataclass(frozen=True, eq=False)
class LandscapeSlice:
    """f(x + a u + b v) on a grid.

    Attributes:
        steps: (n,), the values that a and b take; 0 is in the middle.
        values: (n, n), a along the first and b along the second dimension.
    """

    steps: Tensor
    values: Tensor


@torch.no_grad()
def landscape_slice(
    function: Callable[[Tensor], Tensor],
    point: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    radius: float = 1.0,
    points: int = 41,
) -> LandscapeSlice:
    """f(x + a u + b v) for a, b in [-radius, radius].

    Args:
        function: f, of a vector (m,), to a single number.
        point: x, (m,), for example a critical point.
        first: u, (m,), as long as a step of 1 is to be.
        second: v, (m,).
        radius: how far to go along each direction.
        points: odd number of values of a and of b, so that x itself is one of them.

    Raises:
        ValueError: the vectors differ in shape, ``points`` is even or below 3, or the directions
            are parallel, which would make a line of the plane.
    """
    if not point.shape == first.shape == second.shape or point.ndim != 1:
        raise ValueError(
            f"point and directions must be vectors of one length, found shapes "
            f"{tuple(point.shape)}, {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points must be an odd number of at least 3, found {points}")
    lengths = first.norm() * second.norm()
    if not (first @ second).abs() < (1 - 1e-9) * lengths:
        raise ValueError("the two directions are parallel or zero, and span no plane")
    steps = torch.linspace(-radius, radius, points, dtype=point.dtype)
    # Exactly the point in the middle, which rounding might miss.
    steps[points // 2] = 0
    rows = [
        torch.stack([function(point + a * first + b * second).reshape(()) for b in steps])
        for a in steps
    ]
    return LandscapeSlice(steps.cpu(), torch.stack(rows).cpu())


def landscape_figure(
    landscape: LandscapeSlice,
    *,
    title: str = "Loss around a critical point",
    first: str = "first direction",
    second: str = "second direction",
    value: str = "loss",
) -> Figure:
    """Level lines of a slice, and the loss along each of its two directions.

    At a minimum both curves rise from the middle; at a strict saddle one of them falls.

    Args:
        landscape: of :func:`landscape_slice`.
        title: above the level lines.
        first: name of the first direction, for the axes.
        second: name of the second.
        value: name of the function, for the axes.

    Returns:
        A figure that is not attached to any window.
    """
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    plane, lines = figure.subplots(1, 2)
    steps, values = landscape.steps.numpy(), landscape.values.numpy()
    filled = plane.contourf(steps, steps, values.T, levels=24, cmap="viridis")
    plane.contour(steps, steps, values.T, levels=24, colors="white", linewidths=0.3)
    plane.plot([0], [0], marker="*", markersize=13, color="white", markeredgecolor="black")
    figure.colorbar(filled, ax=plane, label=value)
    tidy(plane, title, f"{first} (steps)", f"{second} (steps)")
    middle = len(steps) // 2
    for number, (name, line) in enumerate(
        ((first, values[:, middle]), (second, values[middle, :]))
    ):
        lines.plot(
            steps, line, color=colour(number), linestyle=("-", "--")[number], label=f"along {name}"
        )
    lines.axvline(0, color="#666666", linewidth=0.9)
    tidy(lines, "Through the point (star)", "distance from the point (steps)", value)
    lines.legend(frameon=False)
    return figure
