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
    "as_parts",
    "import_pymanopt",
    "manifold_of",
    "nearest_point",
    "require_shapes",
    "vertical_part",
]

Array = NDArray[np.float64]


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
    """
    if manifold is not None:
        return manifold
    propose = getattr(problem.node, "manifold", None)
    if propose is None:
        raise DeclarativeNodeError(
            f"{type(problem.node).__name__} does not say on which manifold its solution lives: "
            "pass one, ddn.solvers.Pymanopt(manifold=pymanopt.manifolds.Stiefel(n, p)), or define "
            "`manifold(*shapes)` on the node."
        )
    return propose(*problem.output_shapes)


def as_parts(manifold: Any) -> Sequence[Any]:
    """The factors of a product, or the manifold itself."""
    if isinstance(manifold, import_pymanopt().manifolds.Product):
        factors: Sequence[Any] = manifold.manifolds
        return factors
    return [manifold]


def require_shapes(problem: Problem, manifold: Any, point: Any) -> None:
    """Raise ShapeError unless points of the manifold have the shapes of the solution blocks."""
    parts = list(point) if len(as_parts(manifold)) > 1 else [point]
    found = [np.shape(part) for part in parts]
    expected = [tuple(shape) for shape in problem.output_shapes]
    if found != expected:
        raise ShapeError(
            f"{type(problem.node).__name__}: its solution has block(s) of shape {expected}, but points of "
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
    """How much of a vector points to other representatives of the same point, from 0 to 1.

    On quotients by the orthogonal group, Y and Y Q are one point: the directions Y Ω with skew Ω.
    """
    if type(manifold).__name__ not in ("Grassmann", "PSDFixedRank", "Elliptope"):
        return 0.0
    product = np.swapaxes(point, -1, -2) @ vector
    skew = (product - np.swapaxes(product, -1, -2)) / 2
    size = float(np.linalg.norm(point) * np.linalg.norm(vector))
    return float(np.linalg.norm(skew)) / size if size else 0.0
