"""What is taken for what: a confusion matrix in the order of a tree, with the tree beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from ddn_etf._extras import optional_import

with optional_import("train", "A figure of a confusion matrix"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["class_tree", "confusion_matrix", "hierarchy_confusion_figure"]

_LARGEST_WITH_NUMBERS = 20


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """How many samples of each class (row) were given each label (column), (K, K) int64.

    Args:
        logits: (N, K).
        labels: (N,) integers in 0..K-1.
    """
    K = logits.shape[1]
    pairs = labels.cpu().long() * K + logits.cpu().argmax(dim=1)
    return torch.bincount(pairs, minlength=K * K).reshape(K, K)


def class_tree(distances: Tensor) -> NDArray[np.float64]:
    """The tree of average linkage, in SciPy's form; similar classes are put side by side.

    Heights of lowest common ancestors in a tree are an ultrametric, which average linkage gives
    back exactly.

    Args:
        distances: (K, K), symmetric, zero on the diagonal, K >= 2.

    Raises:
        ValueError: not such a matrix.
    """
    D = distances.detach().cpu().double().numpy()
    if D.ndim != 2 or D.shape[0] != D.shape[1] or len(D) < 2:
        raise ValueError(f"distances must have shape (K, K) with K >= 2, found {D.shape}")
    if not np.isfinite(D).all() or (D < 0).any():
        raise ValueError("distances must be finite and not negative")
    if not np.allclose(D, D.T, atol=1e-8 * D.max()) or (np.abs(D.diagonal()) > 1e-8).any():
        raise ValueError("distances must be symmetric, with zeros on the diagonal")
    condensed = squareform((D + D.T) / 2, checks=False)
    tree: NDArray[np.float64] = linkage(condensed, method="average", optimal_ordering=True)
    return tree


def hierarchy_confusion_figure(
    distances: Tensor,
    logits: Tensor,
    labels: Tensor,
    *,
    names: Sequence[str] | None = None,
    distance: str = "distance",
) -> Figure:
    """The errors of a classifier beside a tree of its classes.

    Rows are true classes and columns predictions, both in the order of the tree's leaves; the shade
    is the share of the row's samples. Errors near the diagonal are mistakes between similar
    classes. The diagonal itself is left white, because it would outshine all errors.

    Args:
        distances: between classes, (K, K); see :func:`class_tree`.
        logits: (N, K).
        labels: (N,) integers in 0..K-1.
        names: of the classes; their numbers by default.
        distance: what the distances are, with their unit, for the axis of the tree.

    Returns:
        A figure that is not attached to any window.
    """
    counts = confusion_matrix(logits, labels)
    K = len(counts)
    names = [str(k) for k in range(K)] if names is None else list(names)
    size = min(14.0, 4.0 + 0.28 * K)
    figure = Figure(figsize=(1.45 * size, size), layout="constrained")
    tree_axes, axes = figure.subplots(1, 2, width_ratios=(1, 2.4))
    tree = dendrogram(
        class_tree(distances),
        orientation="left",
        ax=tree_axes,
        no_labels=True,
        color_threshold=0,
        above_threshold_color="#444444",
    )
    order = list(tree["leaves"])
    # A dendrogram counts from below and a matrix from above.
    tree_axes.invert_yaxis()
    tree_axes.set_xlabel(distance)
    tree_axes.set_yticks([])
    tree_axes.spines[["top", "right", "left"]].set_visible(False)

    share = 100 * counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    errors = share[order][:, order].clone()
    errors.fill_diagonal_(torch.nan)
    image = axes.imshow(errors.numpy(), cmap="Blues", vmin=0, aspect="auto")
    figure.colorbar(image, ax=axes, label="share of the class's samples (%)")
    axes.set_xticks(range(K), [names[k] for k in order], rotation=90 if K > 12 else 0)
    axes.set_yticks(range(K), [names[k] for k in order])
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    wrong = int(counts.sum() - counts.diagonal().sum())
    axes.set_title(f"Errors: {wrong} of {int(counts.sum())} samples", fontsize=11, loc="left")
    if K <= _LARGEST_WITH_NUMBERS:
        _write_counts(axes, counts[order][:, order], errors)
    return figure


def _write_counts(axes: Axes, counts: Tensor, errors: Tensor) -> None:
    dark = 0.5 * np.nanmax(errors.numpy()) if (errors > 0).any() else np.inf
    for i, row in enumerate(counts.tolist()):
        for j, count in enumerate(row):
            if count:
                shade = "white" if i != j and errors[i, j] > dark else "#222222"
                axes.text(j, i, str(count), ha="center", va="center", color=shade, fontsize=8)
