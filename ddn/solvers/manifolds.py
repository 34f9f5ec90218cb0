"""Manifolds of Pymanopt: where a solution lives, and the nearest point of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddn.errors import DeclarativeNodeError, MissingDependencyError, ShapeError
from ddn.problem import Problem

__all__ = [
    "as_blocks_of",
    "as_parts",
    "as_point",
    "import_pymanopt",
    "is_product",
    "manifold_of",
    "nearest_point",
    "require_shapes",
    "vertical_part",
]

Array = NDArray[np.float64]

# Of Pymanopt, by the orthogonal group.
_QUOTIENTS = ("Grassmann", "PSDFixedRank", "Elliptope")


def import_pymanopt() -> Any:
    """The package, or an error that says how to install it."""
    try:
        module = importlib.import_module("pymanopt")
        for part in ("function", "manifolds", "optimizers"):
            importlib.import_module(f"pymanopt.{part}")
    except ImportError as error:
        raise MissingDependencyError("pymanopt", "pymanopt", "ddn.solvers.Pymanopt") from error
    return module


def manifold_of(problem: Problem, manifold: Any = None) -> Any:
    """The given manifold, or that which the node proposes for its solution blocks.

    Raises:
        DeclarativeNodeError: there is none.
        TypeError: it is none of Pymanopt.
    """
    if manifold is None:
        propose = getattr(problem.node, "manifold", None)
        if propose is None:
            raise DeclarativeNodeError(
                f"{type(problem.node).__name__} does not say on which manifold its solution lives: "
                "pass one, ddn.solvers.Pymanopt(manifold=pymanopt.manifolds.Stiefel(n, p)), or define "
                "`manifold(*shapes)` on the node."
            )
        manifold = propose(*problem.output_shapes)
    if isinstance(manifold, import_pymanopt().manifolds.Product) and len(manifold.manifolds) == 1:
        (manifold,) = manifold.manifolds  # Pymanopt cannot differentiate on a product of one
    if not isinstance(manifold, import_pymanopt().manifolds.manifold.Manifold):
        raise TypeError(
            "manifold is a manifold of Pymanopt such as pymanopt.manifolds.Sphere(n) (an instance, not a "
            f"class), but {type(problem.node).__name__} was given {manifold!r}."
        )
    return manifold


def is_product(manifold: Any) -> bool:
    """Whether points are lists, with one array for each factor."""
    return isinstance(manifold, import_pymanopt().manifolds.Product)


def as_parts(manifold: Any) -> Sequence[Any]:
    """The factors of a product, or the manifold itself."""
    parts: Sequence[Any] = manifold.manifolds if is_product(manifold) else [manifold]
    return parts


def as_blocks_of(manifold: Any, point: Any) -> list[Array]:
    """A point as one array for each factor."""
    return list(point) if is_product(manifold) else [point]


def as_point(manifold: Any, blocks: Sequence[Array]) -> Any:
    """One array for each factor as a point."""
    return list(blocks) if is_product(manifold) else blocks[0]


def require_shapes(problem: Problem, manifold: Any, point: Any) -> None:
    """Raise ShapeError unless points of the manifold are real arrays of the shapes of the solution blocks."""
    name = type(problem.node).__name__
    blocks = as_blocks_of(manifold, point)
    if not all(isinstance(block, np.ndarray) and np.isrealobj(block) for block in blocks):
        raise ShapeError(
            f"{name}: points of {manifold} are complex, or several arrays of a decomposition, and a solution "
            "block is one real tensor. Use another manifold, or a product with one factor for each block."
        )
    found = [block.shape for block in blocks]
    expected = [tuple(shape) for shape in problem.output_shapes]
    if found != expected:
        raise ShapeError(
            f"{name}: its solution has block(s) of shape {expected}, but points of "
            f"{manifold} have shape {found}. Use the manifold of that shape, and pymanopt.manifolds.Product "
            "for several blocks."
        )


def nearest_point(manifold: Any, value: Array) -> Array | None:
    """A point of a manifold near an array of its shape; None where that is not known.

    Polar factors, unit vectors, eigenvalues made positive: the orthogonal projections (Absil and Malick
    2012).
    """
    known: dict[str, Callable[[Array], Array]] = {
        "Euclidean": np.array,
        "Sphere": lambda y: y / np.linalg.norm(y),
        "Oblique": lambda y: y / np.linalg.norm(y, axis=0, keepdims=True),
        "Stiefel": _polar,
        "Grassmann": _polar,
        "SpecialOrthogonalGroup": _rotation,
        "SymmetricPositiveDefinite": _positive,
    }
    project = known.get(type(manifold).__name__)
    if project is None or not np.isfinite(value).all():
        return None
    with np.errstate(all="ignore"):
        point = project(value)
    return point if np.isfinite(point).all() else None


def _polar(y: Array) -> Array:
    left, _, right = np.linalg.svd(y, full_matrices=False)
    factor: Array = left @ right
    return factor


def _rotation(y: Array) -> Array:
    left, _, right = np.linalg.svd(y)
    last = np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)
    signs = np.ones(y.shape[:-1])
    signs[..., -1] = last
    rotation: Array = (left * signs[..., None, :]) @ right
    return rotation


def _positive(y: Array) -> Array:
    values, vectors = np.linalg.eigh((y + np.swapaxes(y, -1, -2)) / 2)
    least = 1e-3 * np.abs(values).max(-1, keepdims=True)
    kept = np.maximum(values, np.where(least > 0, least, 1.0))
    matrix: Array = (vectors * kept[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return matrix


def vertical_part(manifold: Any, point: Array, vector: Array) -> float:
    """Size of the part of a vector that points to other representatives of the same point.

    On quotients by the orthogonal group, Y and Y Q are one point: the directions Y Ω with skew Ω.
    """
    if type(manifold).__name__ not in _QUOTIENTS:
        return 0.0
    product = np.swapaxes(point, -1, -2) @ vector
    skew = (product - np.swapaxes(product, -1, -2)) / 2
    size = float(np.linalg.norm(point, 2, axis=(-2, -1)).max())
    return float(np.linalg.norm(skew)) / size if size else 0.0
