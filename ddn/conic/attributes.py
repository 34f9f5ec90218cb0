"""Values of CVXPY parameters, checked against the attributes that the problem was built on.

Whether CVXPY's problem is convex may hang on a parameter's being nonnegative or positive semidefinite;
CVXPY checks that when a value is assigned. Here values are tensors, and the check is this one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddn.errors import DeclarativeNodeError
from ddn.failure import format_indices

__all__ = ["impose_attributes"]

_SYMMETRIC = ("symmetric", "PSD", "NSD")
_CHECKED = (*_SYMMETRIC, "nonneg", "pos", "nonpos", "neg", "diag", "sparsity")
# Relative to the largest entry. Wide enough for finite differences.
_TOLERANCE = 1e-5


def impose_attributes(parameter: Any, value: Tensor, label: str) -> Tensor:
    """The value ``(*batch, *shape)``; the symmetric part of one that is symmetric by attribute.

    Of a symmetric, semidefinite, diagonal or sparse parameter the problem sees only independent entries.
    Taking the symmetric part makes the gradient of a symmetric matrix symmetric.

    Raises:
        DeclarativeNodeError: the value contradicts the attributes.
    """
    attributes = parameter.attributes
    if not any(attributes[name] for name in _CHECKED):
        return value
    given = value.detach()
    core = tuple(range(-len(parameter.shape), 0))
    size = given.abs().amax(core) if core and parameter.size else given.abs()
    if any(attributes[name] for name in _SYMMETRIC):
        _require(given - given.mT, size, core, label, "symmetric", _TOLERANCE * 100)
        value = (value + value.mT) / 2
    if attributes["PSD"] or attributes["NSD"]:
        sign = 1 if attributes["PSD"] else -1
        known = torch.where(given.isfinite(), given, 0)
        lowest = torch.linalg.eigvalsh(sign * (known + known.mT) / 2).amin(-1)
        name = "positive" if attributes["PSD"] else "negative"
        _require(lowest.clamp(max=0), size, (), label, f"{name} semidefinite")
    if attributes["nonneg"] or attributes["pos"]:
        _require(given.clamp(max=0), size, core, label, "nonnegative")
    if attributes["nonpos"] or attributes["neg"]:
        _require(given.clamp(min=0), size, core, label, "nonpositive")
    if attributes["diag"]:
        off = given - torch.diag_embed(given.diagonal(dim1=-2, dim2=-1))
        _require(off, size, core, label, "diagonal")
    if attributes["sparsity"]:
        mask = torch.zeros(parameter.shape, dtype=torch.bool, device=value.device)
        mask[tuple(torch.as_tensor(index) for index in parameter.sparse_idx)] = True
        _require(given.masked_fill(mask, 0), size, core, label, "zero outside its sparsity pattern")
    return value


def _require(
    violation: Tensor,
    size: Tensor,
    core: tuple[int, ...],
    label: str,
    text: str,
    tolerance: float = _TOLERANCE,
) -> None:
    worst = violation.abs().amax(core) if core and violation.numel() else violation.abs()
    wrong = worst > tolerance * size
    if bool(wrong.any()):
        raise DeclarativeNodeError(
            f"CvxpyNode: the value of {label} is not {text} for {format_indices(wrong)}, but the "
            "parameter is declared so, and the problem may not be convex otherwise. Project the value, "
            "for example by a clamp or by S @ S.mT, or declare the parameter without the attribute."
        )
