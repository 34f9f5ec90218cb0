"""From a matrix of distances back to the tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn_etf.hierarchy.edges import Edges
from ddn_etf.hierarchy.errors import HierarchyError

__all__ = ["as_distances", "edges_of_distances"]

# Of the largest distance: how far rounding may take equal distances apart.
_ROUNDING = 1e-9


def as_distances(distances: Tensor | NDArray[Any] | Sequence[Sequence[float]]) -> Tensor:
    """Distances between K >= 2 classes in float64 on the host, checked.

    Args:
        distances: D, (K, K), finite, symmetric up to rounding, zero on the diagonal and positive
            elsewhere.

    Returns:
        (K, K), exactly symmetric.

    Raises:
        HierarchyError: it is not such a matrix; names the first entry that is wrong.
    """
    if isinstance(distances, Tensor):
        distances = distances.detach().cpu()
    matrix = torch.as_tensor(distances).to(torch.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise HierarchyError(
            f"distances must have shape (K, K) with K >= 2, found {tuple(matrix.shape)}"
        )
    off_diagonal = ~torch.eye(len(matrix), dtype=torch.bool)
    _refuse(~matrix.isfinite(), matrix, "is not a finite number")
    _refuse(~off_diagonal & (matrix != 0), matrix, "must be 0: a class has no distance from itself")
    _refuse(matrix < 0, matrix, "is negative")
    asymmetry = (matrix - matrix.mT).abs()
    _refuse(asymmetry > _ROUNDING * matrix.max(), matrix, "differs from its mirror image")
    _refuse(
        off_diagonal & (matrix == 0),
        matrix,
        "is 0: the two classes would share one vector and could not be told apart; merge them, or "
        "give the node above them a positive height",
    )
    return (matrix + matrix.mT) / 2


def _refuse(bad: Tensor, matrix: Tensor, reason: str) -> None:
    if bad.any():
        i, j = torch.nonzero(bad)[0].tolist()
        raise HierarchyError(f"distances[{i}, {j}] = {matrix[i, j].item():g} {reason}")


def edges_of_distances(
    distances: Tensor | NDArray[Any] | Sequence[Sequence[float]],
    names: Sequence[str],
    linkage: str | None = None,
) -> Edges:
    """The tree in which D_ij is the height of the lowest common ancestor of i and j.

    There is one if and only if D is an ultrametric, D_ij <= max(D_ik, D_kj) for all i, j, k; single
    linkage finds it. Other matrices have no such tree, and ``linkage`` says how to choose one.

    Args:
        distances: D, see :func:`as_distances`.
        names: of the classes, K of them.
        linkage: None to refuse what is no ultrametric; else a method of
            :func:`scipy.cluster.hierarchy.linkage`: ``"single"`` for the largest ultrametric below
            D, ``"complete"``, ``"average"``.

    Raises:
        HierarchyError: no such matrix, not an ultrametric, or not one name per class.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    D = as_distances(distances).numpy()
    K = len(D)
    if len(names) != K:
        raise HierarchyError(f"{len(names)} names for {K} classes; give one name per class")
    if linkage not in {None, "single", "complete", "average", "weighted"}:
        raise HierarchyError(
            f"unknown linkage {linkage!r}; known are single, complete, average and weighted"
        )
    rounding = _ROUNDING * D.max()
    merges = hierarchy.linkage(squareform(D), linkage or "single")
    if linkage is None:
        tree = squareform(hierarchy.cophenet(merges))
        if (D - tree).max() > rounding:
            raise _not_ultrametric(D, tree, names)
    parents: list[int | None] = [None] * (2 * K - 1)
    heights = [0.0] * K + merges[:, 2].tolist()
    for node, (left, right) in enumerate(merges[:, :2].astype(int).tolist(), start=K):
        parents[left] = parents[right] = node
    # Merges at one height are one node with several children.
    kept = [True] * (2 * K - 1)
    for node in range(2 * K - 3, K - 1, -1):
        above = parents[node]
        assert above is not None
        if heights[above] - heights[node] <= rounding:
            kept[node] = False
    return _without(names, parents, heights, kept)


def _without(
    names: Sequence[str], parents: list[int | None], heights: list[float], kept: list[bool]
) -> Edges:
    """Leave nodes out; their children go to the next node above that stays."""

    def above(node: int) -> int | None:
        parent = parents[node]
        while parent is not None and not kept[parent]:
            parent = parents[parent]
        return parent

    nodes = [node for node, stays in enumerate(kept) if stays]
    position = {node: index for index, node in enumerate(nodes)}
    return Edges(
        names=tuple(names[node] if node < len(names) else "" for node in nodes),
        parents=tuple(None if (up := above(node)) is None else position[up] for node in nodes),
        heights=tuple(heights[node] for node in nodes),
    )


def _not_ultrametric(
    D: NDArray[np.float64], tree: NDArray[np.float64], names: Sequence[str]
) -> HierarchyError:
    # On the path of short steps from i to the worst j there is a first node farther from i than
    # the longest step; it and the node before it violate the inequality with i.
    i = int(np.unravel_index((D - tree).argmax(), D.shape)[0])
    excess = D[i][:, None] - np.maximum(D[i][None, :], D)
    j, k = (int(index) for index in np.unravel_index(excess.argmax(), D.shape))
    return HierarchyError(
        f"the distances are no ultrametric, so no tree has them as heights of common ancestors: "
        f"D[{names[i]}, {names[j]}] = {D[i, j]:g} is more than the larger of "
        f"D[{names[i]}, {names[k]}] = {D[i, k]:g} and D[{names[k]}, {names[j]}] = {D[k, j]:g}; "
        'linkage="average", say, takes the nearest tree of that method'
    )
