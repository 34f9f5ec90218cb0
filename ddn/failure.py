"""What happens to problems that fail: one policy, applied problem by problem."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddn.errors import SolveError, SolveWarning

__all__ = ["POLICIES", "apply_policy", "format_indices"]

POLICIES = ("raise", "warn", "nan")

_MAX_LISTED = 10


def apply_policy(
    on_failure: str,
    failed: Tensor,
    message: Callable[[], str],
    tensors: tuple[Tensor, ...],
    error: type[SolveError] = SolveError,
) -> tuple[Tensor, ...]:
    """Raise, warn, or put NaN in the rows of the failed problems.

    Args:
        on_failure: "raise", "warn" or "nan".
        failed: mask ``(*batch,)``.
        message: makes the text; called only if a problem failed.
        tensors: ``(*batch, ...)`` each.
        error: what to raise.

    Returns:
        The tensors; with "nan", NaN in exactly the failed problems.
    """
    if not bool(failed.any()):
        return tensors
    if on_failure == "raise":
        raise error(message(), [tuple(index) for index in failed.nonzero().tolist()])
    if on_failure == "warn":
        warnings.warn(message(), SolveWarning, stacklevel=3)
        return tensors
    return tuple(
        torch.where(failed.reshape((*failed.shape, *(1,) * (t.ndim - failed.ndim))), torch.nan, t)
        for t in tensors
    )


def format_indices(mask: Tensor) -> str:
    """Batch elements where ``mask`` is true, in words."""
    if mask.ndim == 0:
        return "the problem"
    indices: list[Any] = mask.nonzero().tolist()
    indices = [index[0] if len(index) == 1 else tuple(index) for index in indices]
    shown = ", ".join(map(str, indices[:_MAX_LISTED]))
    more = f" and {len(indices) - _MAX_LISTED} more" if len(indices) > _MAX_LISTED else ""
    return f"batch element(s) {shown}{more}"
