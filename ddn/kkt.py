"""The KKT system of a batch of problems as a dense symmetric matrix.

Other ways to solve it (structured, matrix-free) take the place of :class:`DenseKKT` in
``ddn.ImplicitGradient(linear_solver=...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddn.linear_solve import solve_symmetric
from ddn.problem import Problem

__all__ = ["DenseKKT", "KKTSolver", "assemble", "least_squares_multipliers"]


class KKTSolver(Protocol):
    """Solves K (u, s) = (right_y, right_multipliers) at a solution."""

    def solve(
        self,
        problem: Problem,
        y: Tensor,
        multipliers: Tensor,
        operands: Sequence[Tensor],
        right_y: Tensor,
        right_multipliers: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u ``(*batch, m)``, s ``(*batch, p)``, and a mask that is true where no solution exists."""


@dataclass(frozen=True)
class DenseKKT:
    """Assembles K, ``(*batch, m + p, m + p)``, and factorises it as LDLᵀ.

    Time O((m + p)³) and memory O((m + p)²) per problem, after m reverse passes for K. Right sides with
    more batch dimensions than K (rows of a Jacobian under ``vmap``) share one factorisation.
    """

    def solve(
        self,
        problem: Problem,
        y: Tensor,
        multipliers: Tensor,
        operands: Sequence[Tensor],
        right_y: Tensor,
        right_multipliers: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Assemble, factorize, solve; see :class:`KKTSolver`."""
        matrix = assemble(*problem.kkt_blocks(y, multipliers, operands))
        m, p = y.shape[-1], multipliers.shape[-1]
        batch = torch.broadcast_shapes(
            right_y.shape[:-1], right_multipliers.shape[:-1], matrix.shape[:-2]
        )
        right = torch.cat([right_y.expand(*batch, m), right_multipliers.expand(*batch, p)], -1)
        # Leading dimensions that K does not have become columns: (*extra, *batch, n) to (*batch, n, k).
        extra = len(batch) - (matrix.ndim - 2)
        matrix = matrix.expand(*batch[extra:], m + p, m + p)
        columns = right.reshape(-1, *right.shape[extra:]).movedim(0, -1)
        solution, failed = solve_symmetric(matrix, columns)
        solution = solution.movedim(-1, 0).reshape(right.shape)
        return solution[..., :m], solution[..., m:], failed.expand(batch)


def assemble(hessian: Tensor, jacobian: Tensor) -> Tensor:
    """K = [[H, Aᵀ], [A, 0]] from H ``(*batch, m, m)`` and A ``(*batch, p, m)``."""
    p = jacobian.shape[-2]
    if p == 0:
        return hessian
    corner = hessian.new_zeros(*hessian.shape[:-2], p, p)
    upper = torch.cat([hessian, jacobian.mT], -1)
    return torch.cat([upper, torch.cat([jacobian, corner], -1)], -2)


def least_squares_multipliers(gradient: Tensor, jacobian: Tensor) -> Tensor:
    """λ = argmin ‖∇f + Aᵀλ‖², of minimum norm where A is rank-deficient.

    Args:
        gradient: ∇f, ``(*batch, m)``.
        jacobian: A, ``(*batch, p, m)``.

    Returns:
        λ ``(*batch, p)``.
    """
    if jacobian.shape[-2] == 0:
        return gradient.new_zeros(*gradient.shape[:-1], 0)
    gram = jacobian @ jacobian.mT
    multipliers = torch.zeros_like(jacobian[..., :1])
    # The second pass corrects what squaring the condition number of A cost the first.
    for _ in range(2):
        residual = gradient.unsqueeze(-1) + jacobian.mT @ multipliers
        correction, _ = solve_symmetric(gram, -(jacobian @ residual))
        multipliers = multipliers + correction
    return multipliers.squeeze(-1)
