"""Multipliers from least squares, for more rows than a matrix may have.

With the identity in place of the Hessian, the KKT system

    [[I, Jᵀ], [J, 0]] (u, μ) = (−∇f, 0)

says that μ minimizes ‖∇f + Jᵀμ‖², with −u the residual. :class:`~ddn.kkt.MINRES` solves it by products.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ddn.functional import gradient
from ddn.kkt.linearized import Linearized
from ddn.kkt.minres import MINRES
from ddn.kkt.system import KKTSystem
from ddn.lagrangian import Lagrangian
from ddn.problem import Problem

__all__ = ["multipliers_by_products"]


def multipliers_by_products(
    problem: Problem,
    y: Tensor,
    objective_gradient: Tensor,
    candidate: Tensor,
    operands: Sequence[Tensor],
) -> Tensor:
    """μ = (λ, ν) that minimizes ‖∇f + Jᵀμ‖², with ν_i = 0 but for candidates, in memory O(m + p + q).

    The sign of ν is what it is: at a solution with independent constraints, ν ≥ 0.

    Args:
        problem: the problem.
        y: ``(*batch, m)``.
        objective_gradient: ∇f, ``(*batch, m)``.
        candidate: which inequalities, bounds included, may have a multiplier, ``(*batch, q)``.
        operands: inputs and captured tensors.

    Returns:
        ``(*batch, p + q)``, of minimum norm where constraints depend on each other.
    """
    rows = problem.constraints(y, operands)
    system = _LeastSquaresSystem(
        Lagrangian(problem), y, torch.zeros_like(rows), candidate, operands
    )
    _, multipliers, _ = (
        MINRES().factorize(system).solve(-objective_gradient, torch.zeros_like(rows))
    )
    bounds = problem.num_bound_rows
    if not bounds:
        return multipliers
    stated, lower, upper = multipliers.split(
        [rows.shape[-1] - bounds, bounds // 2, bounds // 2], -1
    )
    # Where both bounds of a variable are near, the multiplier belongs to one of them.
    near = candidate[..., candidate.shape[-1] - bounds :].unflatten(-1, (2, -1)).all(-2)
    force = upper - lower
    lower = torch.where(near, (-force).clamp_min(0), lower)
    upper = torch.where(near, force.clamp_min(0), upper)
    return torch.cat([stated, lower, upper], -1)


class _LeastSquaresSystem(KKTSystem):
    """The rows of a KKT system, with the identity for its Hessian."""

    def hessian_product(self, u: Tensor) -> Tensor:
        return u

    def repeated_product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        held = self.row_weight > 0
        image = torch.where(held, self._forward(u)[0], 0)
        return u + self._transposed(torch.where(held, s, 0))[0], image - self.corner * s

    @cached_property
    def _transposed(self) -> Linearized:
        problem, operands = self.lagrangian.problem, self.operands
        return Linearized(lambda y: problem.constraints(y, operands), self.y, size=self._work_size)

    @cached_property
    def _forward(self) -> Linearized:
        """Linear in the multipliers: the transpose of the transpose."""
        problem, y, operands = self.lagrangian.problem, self.y, self.operands
        return Linearized(
            lambda v: gradient(lambda y: (problem.constraints(y, operands) * v).sum(), y)[0],
            torch.zeros_like(self.multipliers),
            size=self._work_size,
        )
