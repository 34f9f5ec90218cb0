"""From a matrix of distances back to the tree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn_etf.hierarchy.edges import Edges
from ddn_etf.hierarchy.errors import HierarchyError
from ddn_etf.validation import check_real

__all__ = ["as_distances", "as_real_matrix", "edges_of_distances", "rounding_of"]

# Of the largest distance: how far rounding may take equal distances apart.
_ROUNDING = 1e-9


def rounding_of(distances: object) -> float:
    """How far rounding may take equal distances apart, relative to the largest one.

    1e-9, or 16 units of rounding of a narrower dtype.
    """
    if isinstance(distances, Tensor) and distances.is_floating_point():
        return max(_ROUNDING, 16 * torch.finfo(distances.dtype).eps)
    if isinstance(distances, np.ndarray) and distances.dtype.kind == "f":
        return max(_ROUNDING, 16 * float(np.finfo(distances.dtype).eps))
    return _ROUNDING


def as_distances(
    distances: Tensor | NDArray[Any] | Sequence[Sequence[float]], tolerance: float | None = None
) -> Tensor:
    """Distances between K >= 2 classes in float64 on the host, checked.

    Args:
        distances: D, (K, K), finite, symmetric up to rounding, zero on the diagonal and positive
            elsewhere.
        tolerance: of the largest distance, what counts as rounding; see :func:`rounding_of` for the
            default.

    Returns:
        (K, K), exactly symmetric, with zeros on the diagonal.

    Raises:
        TypeError: not a matrix of numbers.
        HierarchyError: it is not such a matrix; names the first entry that is wrong.
    """
    matrix = as_real_matrix(distances)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise HierarchyError(
            f"distances must have shape (K, K) with K >= 2, found {tuple(matrix.shape)}"
        )
    off_diagonal = ~torch.eye(len(matrix), dtype=torch.bool, device="cpu")
    _refuse(~matrix.isfinite(), matrix, "is not a finite number")
    rounding = (rounding_of(distances) if tolerance is None else tolerance) * matrix.max()
    _refuse(
        ~off_diagonal & (matrix.abs() > rounding),
        matrix,
        "must be 0: a class has no distance from itself",
    )
    matrix = matrix.where(off_diagonal, 0.0)
    _refuse(matrix < 0, matrix, "is negative")
    asymmetry = (matrix - matrix.mT).abs()
    _refuse(asymmetry > rounding, matrix, "differs from its mirror image")
    _refuse(
        off_diagonal & (matrix == 0),
        matrix,
        "is 0: the two classes would share one vector and could not be told apart; merge them, or "
        "give the node above them a positive height",
    )
    return (matrix + matrix.mT) / 2


def as_real_matrix(distances: Tensor | NDArray[Any] | Sequence[Sequence[float]]) -> Tensor:
    """Numbers of any real type as a tensor in float64 on the host; shape and values as they are.

    Raises:
        TypeError: not numbers, or rows of different lengths.
    """
    remedy = "; of a hierarchy, hierarchy.distances" if hasattr(distances, "distances") else ""
    if isinstance(distances, Tensor):
        if distances.is_meta or distances.is_complex():
            raise TypeError(f"distances must be real numbers, found {distances!r}")
        return distances.detach().to("cpu", torch.float64)
    try:
        # By NumPy, which takes Python's numbers for float64.
        array = np.asarray(distances)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"found {array.dtype}")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"distances must be a matrix of real numbers, found {type(distances).__name__} "
            f"({error}){remedy}"
        ) from None
    return torch.from_numpy(array.astype(np.float64))


def _refuse(bad: Tensor, matrix: Tensor, reason: str) -> None:
    if bad.any():
        i, j = torch.nonzero(bad)[0].tolist()
        raise HierarchyError(f"distances[{i}, {j}] = {matrix[i, j].item():g} {reason}")


def edges_of_distances(
    distances: Tensor | NDArray[Any] | Sequence[Sequence[float]],
    names: Sequence[str] | None = None,
    linkage: str | None = None,
    tolerance: float | None = None,
) -> Edges:
    """The tree in which D_ij is the height of the lowest common ancestor of i and j.

    There is one if and only if D is an ultrametric, D_ij <= max(D_ik, D_kj) for all i, j, k; single
    linkage finds it. Other matrices have no such tree, and ``linkage`` says how to choose one.

    Args:
        distances: D, see :func:`as_distances`.
        names: of the classes, K of them; "0", "1", ... if not given.
        linkage: None to refuse what is no ultrametric; else a method of
            :func:`scipy.cluster.hierarchy.linkage`: ``"single"`` for the largest ultrametric below
            D, ``"complete"``, ``"average"``.
        tolerance: how far D may be from an ultrametric, relative to the largest distance; see
            :func:`rounding_of` for the default. Nodes that are not higher than that above a node
            are one with it.

    Raises:
        TypeError: not a matrix of numbers, or a tolerance that is none.
        ValueError: a tolerance outside [0, 1).
        HierarchyError: no such matrix, not an ultrametric, or not one name per class.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if tolerance is None:
        tolerance = rounding_of(distances)
    check_real("tolerance", tolerance)
    if not 0 <= tolerance < 1:
        raise ValueError(
            f"tolerance is relative to the largest distance and must lie in [0, 1), found {tolerance}"
        )
    D = as_distances(distances, tolerance).numpy()
    K = len(D)
    if names is None:
        names = [str(number) for number in range(K)]
    elif not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be a sequence of texts, one per class, found {names!r}")
    if len(names) != K:
        raise HierarchyError(f"{len(names)} names for {K} classes; give one name per class")
    if linkage not in {None, "single", "complete", "average", "weighted"}:
        raise HierarchyError(
            f"unknown linkage {linkage!r}; known are single, complete, average and weighted"
        )
    rounding = tolerance * D.max()
    merges = hierarchy.linkage(squareform(D), linkage or "single")
    if linkage is None:
        tree = squareform(hierarchy.cophenet(merges))
        if (D - tree).max() > rounding:
            raise _not_ultrametric(D, tree, names, tolerance)
    parents: list[int | None] = [None] * (2 * K - 1)
    heights = [0.0] * K + merges[:, 2].tolist()
    for node, (left, right) in enumerate(merges[:, :2].astype(int).tolist(), start=K):
        parents[left] = parents[right] = node
    # Merges at one height are one node with several children. Each is compared with the node that
    # stays above it, so that many small steps are not taken for one.
    kept = [True] * (2 * K - 1)
    above = list(parents)
    for node in range(2 * K - 3, -1, -1):
        parent = above[node]
        assert parent is not None
        if not kept[parent]:
            above[node] = parent = above[parent]
            assert parent is not None
        if node >= K and heights[parent] - heights[node] <= rounding:
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
    D: NDArray[np.float64], tree: NDArray[np.float64], names: Sequence[str], tolerance: float
) -> HierarchyError:
    # On the path of short steps from i to the worst j there is a first node farther from i than
    # the longest step; it and the node before it violate the inequality with i.
    i = int(np.unravel_index((D - tree).argmax(), D.shape)[0])
    excess = D[i][:, None] - np.maximum(D[i][None, :], D)
    j, k = (int(index) for index in np.unravel_index(excess.argmax(), D.shape))
    relative = (D - tree).max() / D.max()
    return HierarchyError(
        f"the distances are no ultrametric, so no tree has them as heights of common ancestors: "
        f"D[{names[i]}, {names[j]}] = {D[i, j]:.9g} is more than the larger of "
        f"D[{names[i]}, {names[k]}] = {D[i, k]:.9g} and D[{names[k]}, {names[j]}] = {D[k, j]:.9g} (by "
        f"{excess[j, k]:.3g}). From the largest ultrametric below, D is up to {relative:.3g} of its "
        f"largest entry away, more than the tolerance {tolerance:.3g}. If that is rounding, use "
        f"tolerance={_rounded_up(relative)}; "
        'otherwise linkage="average", say, takes the nearest tree of that method'
    )


def _rounded_up(value: float) -> str:
    """The next number above with two digits."""
    value *= 1 + 1e-9  # above it in spite of rounding, too
    exponent = math.floor(math.log10(value)) - 1
    return f"{math.ceil(value / 10.0**exponent) * 10.0**exponent:.2g}"
