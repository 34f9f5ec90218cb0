"""How a node states its constraints.

``equality`` returns any tensor that is zero at a feasible point; its entries are the constraints. A
matrix that is symmetric for *every* argument, such as ``Y.mT @ Y - I``, states each off-diagonal
constraint twice: the constraint Jacobian is rank-deficient and the multipliers are not unique.
:func:`symmetric` marks such a matrix; the engine keeps its n(n+1)/2 independent rows, the
half-vectorisation ``vech(S) = L vec(S)`` with the elimination matrix L (Magnus and Neudecker 1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.matrix_calculus import vech

__all__ = ["SymmetricConstraint", "asymmetry", "flatten_bounds", "flatten_constraints", "symmetric"]


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


def flatten_constraints(value: Any, name: str = "A constraint function") -> Tensor:
    """The constraints of one problem as a vector (p,).

    Tuples and lists are concatenated, so that constraints of several kinds can be stated together.

    Args:
        value: what the function returned.
        name: of the function, for messages.
    """
    if isinstance(value, SymmetricConstraint):
        return vech(value.matrix)
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise SignatureError(
                f"{name} returned a tensor of {value.dtype}: a constraint is a number, not a truth value. "
                "Return the difference that is zero (equality) or at most zero (inequality), such as "
                "`y.sum() - 1` for `y.sum() == 1`."
            )
        return value.reshape(value.numel())
    if isinstance(value, tuple | list) and value:
        return torch.cat([flatten_constraints(part, name) for part in value])
    raise SignatureError(
        f"{name} must return a tensor, ddn.symmetric(...) or a tuple of these, but returned "
        f"{type(value).__name__}."
    )


def flatten_bounds(
    value: Any, shapes: Sequence[torch.Size], like: Tensor, name: str
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of one problem as two vectors (m,), infinite where there is none.

    Args:
        value: what ``bounds`` of the node returned: (lower, upper), each None, something that
            broadcasts to the solution block, or a tuple of these with one entry per block.
        shapes: of the solution blocks.
        like: a tensor with dtype and device of the computation.
        name: of the node, for messages.
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise SignatureError(
            f"{name}.bounds must return a pair (lower, upper), each None or a bound of the solution, but "
            f"returned {type(value).__name__}."
        )
    result = []
    for side, absent in zip(value, (-torch.inf, torch.inf), strict=True):
        several = isinstance(side, tuple | list)
        blocks = [None] * len(shapes) if side is None else list(side) if several else [side]
        if len(blocks) != len(shapes):
            raise SignatureError(
                f"{name}.bounds must return one entry per solution block, {len(shapes)}, for each side, "
                f"but returned {len(blocks)}."
            )
        parts = []
        for block, shape in zip(blocks, shapes, strict=True):
            bound = torch.as_tensor(absent if block is None else block)
            bound = bound.to(like.device, like.dtype)
            try:
                parts.append(bound.expand(shape).reshape(-1))
            except RuntimeError as error:
                raise SignatureError(
                    f"{name}.bounds returned a bound of shape {tuple(bound.shape)} for a solution block of "
                    f"shape {tuple(shape)}: it must broadcast to that shape."
                ) from error
        result.append(torch.cat(parts))
    return result[0], result[1]


def asymmetry(value: Any) -> Tensor | None:
    """Largest relative asymmetry of the matrices marked symmetric; None without any."""
    if isinstance(value, SymmetricConstraint):
        scale = value.matrix.abs().amax().clamp_min(torch.finfo(value.matrix.dtype).tiny)
        return (value.matrix - value.matrix.mT).abs().amax() / scale
    if isinstance(value, tuple | list):
        parts = [part for part in map(asymmetry, value) if part is not None]
        return torch.stack(parts).amax() if parts else None
    return None
