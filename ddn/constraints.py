"""How a node states its constraints.

``equality`` returns any tensor that is zero at a feasible point; its entries are the constraints. A
matrix that is symmetric for *every* argument, such as ``Y.mT @ Y - I``, states each off-diagonal
constraint twice: the constraint Jacobian is rank-deficient and the multipliers are not unique.
:func:`symmetric` marks such a matrix; the engine keeps its n(n+1)/2 independent rows, the
half-vectorisation ``vech(S) = L vec(S)`` with the elimination matrix L (Magnus and Neudecker 1980).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.matrix_calculus import vech

__all__ = ["SymmetricConstraint", "symmetric"]


@dataclass(frozen=True)
class SymmetricConstraint:
    """A matrix-valued constraint of which only the lower triangle counts."""

    matrix: Tensor


def symmetric(matrix: Tensor) -> SymmetricConstraint:
    """Mark ``matrix = 0``, with a matrix that is symmetric for every argument, as n(n+1)/2 constraints.

    Args:
        matrix: (n, n).

    Raises:
        SignatureError: if ``matrix`` is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise SignatureError(
            f"ddn.symmetric marks a square matrix, but was given shape {tuple(matrix.shape)}."
        )
    return SymmetricConstraint(matrix)


def flatten_constraints(value: Any) -> Tensor:
    """The constraints of one problem as a vector (p,).

    Tuples and lists are concatenated, so that constraints of several kinds can be stated together.
    """
    if isinstance(value, SymmetricConstraint):
        return vech(value.matrix)
    if isinstance(value, Tensor):
        return value.reshape(-1)
    if isinstance(value, tuple | list) and value:
        return torch.cat([flatten_constraints(part) for part in value])
    raise SignatureError(
        "A constraint function returns a tensor, ddn.symmetric(...) or a tuple of these, "
        f"but this one returned {type(value).__name__}."
    )


def asymmetry(value: Any) -> Tensor | None:
    """Largest relative asymmetry of the matrices marked symmetric; None without any."""
    if isinstance(value, SymmetricConstraint):
        scale = value.matrix.abs().amax().clamp_min(torch.finfo(value.matrix.dtype).tiny)
        return (value.matrix - value.matrix.mT).abs().amax() / scale
    if isinstance(value, tuple | list):
        parts = [part for part in map(asymmetry, value) if part is not None]
        return torch.stack(parts).amax() if parts else None
    return None
