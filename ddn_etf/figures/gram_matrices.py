"""Which directions class means and weights have: their Gram matrices, as cosines."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ddn_etf._extras import optional_import

with optional_import("train", "A figure of Gram matrices"):
    from matplotlib.figure import Figure

__all__ = ["cosines", "gram_figure"]

_TITLES = ("class means", "classifier", "classifier against class means")


def cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """Cosines (K, L) between the rows of (K, d) and of (L, d), each less the mean of all rows.

    A row that equals the mean has cosine 0 with everything.
    """
    return _directions(rows) @ _directions(columns).mT


def gram_figure(classifiers: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Cosines between class means, between weights, and between the two; one row per classifier.

    Everything is centred first. At collapse each matrix has 1 on its diagonal and -1/(K-1) beside
    it, the pattern of a simplex ETF, which the title of every matrix compares with: it gives the
    mean and the range of the entries beside the diagonal.

    Args:
        classifiers: by name: class means (K, d) and weight (K, d).

    Returns:
        A figure that is not attached to any window.
    """
    figure = Figure(figsize=(11.0, 3.9 * len(classifiers) + 0.4), layout="constrained")
    grid = figure.subplots(len(classifiers), 3, squeeze=False)
    image = None
    for row, (name, (means, weight)) in zip(grid, classifiers.items(), strict=True):
        pairs = ((means, means), (weight, weight), (weight, means))
        for axes, title, (left, right) in zip(row, _TITLES, pairs, strict=True):
            values = cosines(left, right)
            # Red and blue, which no kind of colour blindness confuses; white is 0.
            image = axes.imshow(values.numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
            beside = values[~torch.eye(len(values), dtype=torch.bool)]
            axes.set_title(
                f"{name}: {title}\n{beside.mean():.3f} [{beside.min():.3f}, {beside.max():.3f}] "
                f"(ETF: {-1 / (len(values) - 1):.3f})",
                fontsize=9,
                loc="left",
            )
            axes.set_xlabel("class")
            axes.set_ylabel("class")
    if image is not None:
        figure.colorbar(image, ax=grid, label="cosine", shrink=0.8)
    return figure


def _directions(rows: Tensor) -> Tensor:
    rows = rows.detach().cpu().double()
    centred = rows - rows.mean(dim=0)
    norms = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return centred / torch.where(norms == 0, 1, norms)
