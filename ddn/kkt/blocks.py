"""Symmetric matrices of diagonal blocks, and their inverse on the variables that are free."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddn.kkt.linearized import generic_direction, largest
from ddn.kkt.system import KKTSystem
from ddn.linear_solve import SymmetricFactorization, factorize

__all__ = ["BlockInverse", "BlockMatrix", "diagonal_blocks", "has_other_entries"]

# Entries of a diagonal that are this many units of rounding of the largest one, or less, may be
# rounding errors.
_SUSPICIOUS = 1e4


@dataclass(frozen=True)
class BlockMatrix:
    """Diagonal blocks of consecutive groups of variables.

    Attributes:
        blocks: ``(*batch, groups, b, b)``; what the last group lacks is filled up with zeros.
        size: m, at most ``groups · b``.
    """

    blocks: Tensor
    size: int

    def diagonal(self) -> Tensor:
        """``(*batch, m)``."""
        return self.blocks.diagonal(dim1=-2, dim2=-1).flatten(-2)[..., : self.size]

    def add_diagonal(self, diagonal: Tensor) -> BlockMatrix:
        """D + diag(d) for ``(*batch, m)``."""
        added = torch.diag_embed(_group(diagonal, self.blocks.shape[-1]))
        return BlockMatrix(self.blocks + added, self.size)

    def product(self, u: Tensor) -> Tensor:
        """D u for ``(*extra, *batch, m)``."""
        if self.blocks.shape[-1] == 1:
            return self.diagonal() * u
        grouped = _group(u, self.blocks.shape[-1])
        return (self.blocks * grouped.unsqueeze(-2)).sum(-1).flatten(-2)[..., : self.size]


def diagonal_blocks(system: KKTSystem, block_size: int) -> BlockMatrix:
    """The diagonal blocks of H by ``block_size`` products, if it has no other entries.

    Where objective and constraints cancel, rounding errors are not taken for curvature.
    """
    matrix = _read_blocks(system, block_size)
    if not system.num_constraints or system.lagrangian.barrier:
        return matrix
    size, eps = matrix.diagonal().abs(), torch.finfo(system.y.dtype).eps
    if not bool((size.amin(-1) <= _SUSPICIOUS * eps * size.amax(-1)).any()):
        return matrix
    objective = _read_blocks(
        replace(system, multipliers=torch.zeros_like(system.multipliers)), block_size
    ).blocks
    terms = objective.abs() + (matrix.blocks - objective).abs()
    dust = matrix.blocks.abs() <= 10 * eps * terms
    return BlockMatrix(torch.where(dust, 0, matrix.blocks), matrix.size)


def _read_blocks(system: KKTSystem, block_size: int) -> BlockMatrix:
    m = system.num_variables
    y, b = system.y, min(block_size, m)
    if b == 1:
        ones = torch.ones((), dtype=y.dtype, device=y.device).expand_as(y)
        return BlockMatrix(system.hessian_product(ones).unsqueeze(-1).unsqueeze(-1), m)
    position = torch.arange(m, device=y.device) % b
    probes = (position == torch.arange(b, device=y.device).unsqueeze(-1)).to(y.dtype)
    probes = probes.reshape(b, *(1,) * (y.ndim - 1), m).expand(b, *y.shape)
    blocks = _group(system.hessian_product(probes), b).movedim(0, -1)
    return BlockMatrix((blocks + blocks.mT) / 2, m)


def has_other_entries(system: KKTSystem, matrix: BlockMatrix) -> Tensor:
    """Where the product of H with a generic vector is not that of its blocks, ``(*batch,)``."""
    y = system.y
    probe = generic_direction(y).expand_as(y)
    difference = matrix.product(probe).sub_(system.hessian_product(probe)).abs_()
    # Row by row, so that a row of large entries hides nothing in others.
    size = BlockMatrix(matrix.blocks.abs(), matrix.size).product(probe)
    eps = torch.finfo(y.dtype).eps
    dust = 100 * eps * size.amax(-1, keepdim=True)
    return (difference > size.mul_(eps**0.5).add_(dust)).any(-1)


class BlockInverse:
    """D⁻¹ on the free variables, zero for fixed ones.

    A singular block gets a small diagonal; corrections from the true residual then converge as the proximal
    point method does, provided that the constraints supply what the block lacks.

    Args:
        matrix: D.
        fixed: fixed variables, ``(*batch, m)``; None for none.
    """

    def __init__(self, matrix: BlockMatrix, fixed: Tensor | None) -> None:
        self._size = matrix.size
        self._block_size = matrix.blocks.shape[-1]
        self._fixed = fixed
        self._inverse: Tensor | None = None
        self._factors: SymmetricFactorization | None = None
        eps = torch.finfo(matrix.blocks.dtype).eps
        if self._block_size == 1:
            diagonal = matrix.diagonal()
            if fixed is not None:
                diagonal = torch.where(fixed, torch.inf, diagonal)
            self._inverse = diagonal.reciprocal()
            if not bool(largest(self._inverse).isfinite().all()):
                size = torch.where(diagonal.isinf(), 0, diagonal).abs().amax(-1, keepdim=True)
                shift = eps**0.5 * torch.where(size > 0, size, 1)
                self._inverse = torch.where(diagonal == 0, 1 / shift, self._inverse)
            return
        blocks = _isolate(matrix, fixed)
        factors = factorize(blocks)
        singular = ~factors.is_regular()
        if bool(singular.any()):
            size = blocks.abs().amax((-3, -2, -1))[..., None, None]
            shift = torch.where(singular, eps**0.5 * size.squeeze(-1), 0)[..., None, None]
            identity = torch.eye(self._block_size, dtype=blocks.dtype, device=blocks.device)
            factors = factorize(blocks + shift * identity)
        self._factors = factors

    def solve(self, right: Tensor) -> Tensor:
        """D⁻¹ r for ``(*extra, *batch, m)``."""
        if self._inverse is not None:
            return self._inverse * right
        assert self._factors is not None
        if self._fixed is not None:
            right = torch.where(self._fixed, 0, right)
        grouped = _group(right, self._block_size)
        batch = self._factors.factors.shape[:-1]
        extra = grouped.shape[: grouped.ndim - len(batch)]
        columns = grouped.reshape(-1, *batch).movedim(0, -1)
        solution = self._factors.solve(columns.contiguous()).movedim(-1, 0)
        return solution.reshape(*extra, *batch).flatten(-2)[..., : self._size]


def _group(vector: Tensor, block_size: int) -> Tensor:
    """``(..., m)`` to ``(..., groups, b)``, filled up with zeros."""
    missing = -vector.shape[-1] % block_size
    if missing:
        vector = torch.nn.functional.pad(vector, (0, missing))
    result: Tensor = vector.unflatten(-1, (-1, block_size))
    return result


def _isolate(matrix: BlockMatrix, fixed: Tensor | None) -> Tensor:
    """Blocks with unit rows for fixed variables and where the last group is filled up."""
    blocks = matrix.blocks
    b = blocks.shape[-1]
    free = torch.ones(matrix.size, dtype=torch.bool, device=blocks.device)
    free = free if fixed is None else ~fixed
    free = torch.nn.functional.pad(free, (0, -matrix.size % b)).unflatten(-1, (-1, b))
    both = free.unsqueeze(-1) & free.unsqueeze(-2)
    unit = torch.diag_embed((~free).to(blocks.dtype))
    return torch.where(both, blocks, 0) + unit
