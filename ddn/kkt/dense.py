"""The KKT system as a dense symmetric matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.reduced import ReducedSystem
from ddn.kkt.system import KKTFactorization, KKTSystem
from ddn.linear_solve import SymmetricSystem

__all__ = ["Dense", "assemble", "solve_columns"]


@dataclass(frozen=True)
class Dense:
    """Assembles K, ``(*batch, m + k, m + k)`` for k active constraints, and factorizes it as LDLᵀ.

    Time O((m + k)³) and memory O((m + k)²) per problem, after m reverse passes for H. Right sides with
    more batch dimensions than K (rows of a Jacobian under ``vmap``) share the factorization. Where K is
    singular, the solution is that of minimum norm, if there is one.
    """

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Assemble and factorize."""
        reduced = system.reduced()
        return DenseFactorization(reduced, lambda: reduced.significant(system))


class DenseFactorization:
    """LDLᵀ of a :class:`ddn.kkt.system.ReducedSystem`."""

    failure = (
        "The KKT matrix is singular there and the direction asked for lies outside its range: the "
        "solution is not unique, or its constraints are degenerate. Make the objective strictly convex in "
        "the free directions (a small proximal term, or ddn.ImplicitGradient(smoothing=...) for "
        "inequalities), state every constraint once (ddn.symmetric for symmetric matrices), or use "
        "on_failure='nan' to get NaN in exactly these problems."
    )

    def __init__(
        self, reduced: ReducedSystem, significant: Callable[[], ReducedSystem] | None = None
    ) -> None:
        self._reduced = reduced
        # Where K is doubtful, rounding errors of H must not be taken for curvature.
        self._matrix = SymmetricSystem(
            _matrix(reduced),
            reduced.hessian.shape[-1],
            None if significant is None else lambda: _matrix(significant()),
        )

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ddn.kkt.system.KKTFactorization`."""
        m = right_y.shape[-1]
        first, second = self._reduced.reduce_right_side(right_y, right_multipliers)
        solution, failed = solve_columns(self._matrix, torch.cat([first, second], -1))
        u, kept = solution[..., :m], solution[..., m:]
        return u, self._reduced.expand_solution(u, kept, right_multipliers), failed


def solve_columns(matrix: SymmetricSystem, right: Tensor) -> tuple[Tensor, Tensor]:
    """K⁻¹ of right sides ``(*extra, *batch, n)``: leading dimensions that K lacks become columns.

    Returns:
        The solution and a mask ``(*extra, *batch)`` where there is none.
    """
    batch = matrix.matrix.shape[:-2]
    extra = right.shape[: right.ndim - 1 - len(batch)]
    columns = right.reshape(extra.numel(), *right.shape[len(extra) :]).movedim(0, -1)
    solution, failed = matrix.solve(columns)
    return solution.movedim(-1, 0).reshape(right.shape), failed.expand(extra + batch)


def _matrix(reduced: ReducedSystem) -> Tensor:
    # A padding row has nothing but its entry on the diagonal.
    padding = reduced.padding.to(reduced.hessian.dtype)
    return assemble(reduced.hessian, reduced.jacobian, padding)


def assemble(hessian: Tensor, jacobian: Tensor, corner: Tensor | None = None) -> Tensor:
    """K = [[H, Aᵀ], [A, −C]] from H ``(*batch, m, m)``, A ``(*batch, p, m)``, diagonal C ``(*batch, p)``."""
    p = jacobian.shape[-2]
    if p == 0:
        return hessian
    lower = hessian.new_zeros(*hessian.shape[:-2], p, p)
    if corner is not None:
        lower = lower - torch.diag_embed(corner)
    upper = torch.cat([hessian, jacobian.mT], -1)
    return torch.cat([upper, torch.cat([jacobian, lower], -1)], -2)
