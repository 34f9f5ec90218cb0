"""A frame and the class means on their way to it, in two or three dimensions; still and moving."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ddn_etf._extras import optional_import
from ddn_etf.figures.style import COLOURS

with optional_import("train", "A figure of a frame"):
    import matplotlib as mpl
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.figure import Figure

__all__ = [
    "Moment",
    "animation_gif",
    "animation_html",
    "frame_animation",
    "frame_figure",
    "view_basis",
]


_SIGNS = {
    "minus": "&minus;",
    "fast-backward": "&#9198;",
    "step-backward": "&#8676;",
    "play fa-flip-horizontal": "&#9664;",
    "pause": "&#9208;",
    "play": "&#9654;",
    "step-forward": "&#8677;",
    "fast-forward": "&#9197;",
    "plus": "+",
}


class Moment(Protocol):
    """Where class means and weight were; :class:`ddn_etf.classifier.Snapshot` is one."""

    @property
    def epoch(self) -> int:
        """What the title counts."""
        ...

    @property
    def means(self) -> Tensor:
        """Class means, (K, d)."""
        ...

    @property
    def weight(self) -> Tensor:
        """W, (K, d)."""
        ...


def view_basis(weight: Tensor, axes: int = 2) -> Tensor:
    r"""An orthonormal basis (d, axes) from where a simplex frame looks like a regular polygon.

    The coordinates of class k are to be (cos 2πk/K, sin 2πk/K, cos 4πk/K), centred vectors c_1,
    c_2, c_3 in R^K. For a simplex ETF, W Wᵀ = K/(K-1) M and therefore W (Wᵀ c) = K/(K-1) c: the
    directions Wᵀ c show the frame as wanted, and a QR decomposition makes them orthonormal. (For
    K = 4 the third coordinate is (-1)^k, and the frame a regular tetrahedron.)

    Args:
        weight: W, (K, d), with d >= axes and K > axes.
        axes: 2 or 3.

    Raises:
        ValueError: ``axes`` is neither 2 nor 3, or K or d are too small for it.
    """
    K, d = weight.shape
    if axes not in (2, 3):
        raise ValueError(f"axes must be 2 or 3, found {axes}")
    if axes > d or axes > K - 1:
        raise ValueError(
            f"{K} class means in {d} dimensions span at most {min(d, K - 1)} dimensions around "
            f"their mean, and {axes} are to be drawn; use fewer axes, or more classes"
        )
    W = weight.detach().cpu().double()
    angle = 2 * math.pi * torch.arange(K, dtype=torch.float64) / K
    coordinates = torch.stack([angle.cos(), angle.sin(), (2 * angle).cos()], dim=1)[:, :axes]
    factor = torch.linalg.qr((W - W.mean(0)).mT @ coordinates)
    # The signs that QR leaves open: class 0 is to the right and class 1 above it.
    signs = factor.R.diagonal().sign()
    basis: Tensor = factor.Q * torch.where(signs == 0, 1, signs)
    return basis


def frame_figure(
    means: Tensor,
    weight: Tensor,
    *,
    axes: int = 2,
    basis: Tensor | None = None,
    title: str = "Class means and classifier",
) -> Figure:
    """Class means (dots) and weight (lines from the centre) in the same projection.

    Both are centred and scaled to unit average length, so that at collapse every dot is at the end
    of its line.

    Args:
        means: class means, (K, d).
        weight: W, (K, d).
        axes: 2 or 3 dimensions.
        basis: (d, axes) to project on; by default that of :func:`view_basis` of the weight.
        title: above the figure.

    Returns:
        A figure that is not attached to any window.
    """
    figure, draw = _stage(len(weight), axes)
    draw(means, weight, view_basis(weight, axes) if basis is None else basis, title)
    return figure


def frame_animation(
    moments: Sequence[Moment], *, axes: int = 2, unit: str = "epoch", name: str = ""
) -> FuncAnimation:
    """The class means moving towards the frame, one picture per moment.

    All moments are projected as the last classifier is, so that a frame that turns is seen to turn.

    Args:
        moments: in order, at least one.
        axes: 2 or 3 dimensions.
        unit: what the moments are counted in.
        name: what is shown, in the title before the count.

    Returns:
        An animation; :func:`animation_gif` and :func:`animation_html` make files of it.
    """
    if not moments:
        raise ValueError("no moments to draw; give at least one")
    figure, draw = _stage(len(moments[0].weight), axes)
    basis = view_basis(moments[-1].weight, axes)

    def show(number: int) -> list[Any]:
        moment = moments[number]
        draw(moment.means, moment.weight, basis, f"{name}{unit} {moment.epoch}")
        return []

    show(0)
    return FuncAnimation(figure, show, frames=len(moments), blit=False)


def animation_gif(animation: FuncAnimation, *, frames_per_second: int = 4) -> bytes:
    """The animation as a GIF file that repeats for ever."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.gif"
        animation.save(path, writer=PillowWriter(fps=frames_per_second), dpi=90)
        return path.read_bytes()


def animation_html(animation: FuncAnimation, *, frames_per_second: int = 4) -> str:
    """The animation as HTML with buttons to play and step, which refers to no other file."""
    # Above this size Matplotlib leaves pictures out without an error.
    with mpl.rc_context({"animation.embed_limit": 200}):
        html: str = animation.to_jshtml(fps=frames_per_second, default_mode="loop")
    # Matplotlib takes the signs on its buttons from a font on the web; these are characters.
    html = re.sub(r"<link[^>]*>", "", html)
    for icon, sign in _SIGNS.items():
        html = html.replace(f'<i class="fa fa-{icon}">', f"<i>{sign}")
    return html


def _stage(num_classes: int, axes: int) -> tuple[Figure, Any]:
    """A figure, and the function that draws one moment into it."""
    figure = Figure(figsize=(6.2, 6.0), layout="constrained")
    place: Any = figure.add_subplot(projection="3d" if axes == 3 else None)

    def draw(means: Tensor, weight: Tensor, basis: Tensor, title: str) -> None:
        place.clear()
        dots, ends = (
            (_unit_length(rows) @ basis.to(torch.float64)).numpy() for rows in (means, weight)
        )
        for k in range(num_classes):
            shade = COLOURS[k % len(COLOURS)]
            place.plot(*zip([0] * axes, ends[k], strict=True), color=shade, linewidth=1.4)
            place.plot(
                *([value] for value in dots[k]),
                color=shade,
                marker=("o", "s", "^", "D", "v")[k // len(COLOURS) % 5],
                markersize=7,
                linestyle="",
            )
            if num_classes <= 30:
                place.text(*(1.12 * ends[k]), str(k), ha="center", va="center", fontsize=9)
        # A simplex ETF of unit vectors is this short in the plane, and its polygon fills it.
        limit = 1.8 * math.sqrt(axes / (num_classes - 1))
        place.set(xlim=(-limit, limit), ylim=(-limit, limit))
        place.set_xlabel("direction 1 (of mean length)")
        place.set_ylabel("direction 2 (of mean length)")
        if axes == 3:
            place.set_zlim(-limit, limit)
            place.set_zlabel("direction 3 (of mean length)")
        place.set_aspect("equal")
        place.set_title(
            f"{title}\nlines: classifier, dots: class means, numbers: classes",
            fontsize=11,
            loc="left",
        )

    return figure, draw


def _unit_length(rows: Tensor) -> Tensor:
    """Centred rows, divided by the root of their mean square length."""
    rows = rows.detach().cpu().double()
    centred = rows - rows.mean(dim=0)
    length = centred.square().sum(dim=1).mean().sqrt()
    return centred / length if length > 0 else centred
