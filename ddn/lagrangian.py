"""The Lagrangian of a problem and its derivatives, from which the whole gradient engine is made.

With equality rows h and inequality rows g, multipliers μ = (λ, ν) and the active set a ∈ {0, 1}^q,

    L(x, y, μ) = f + λᵀh + Σ_{a_i = 1} ν_i g_i − ½ Σ_{a_i = 0} ν_i² .

For given a, all first-order conditions are one equation, F = ∇_(y,μ) L = 0: stationarity, h = 0,
g_i = 0 where active and ν_i = 0 where not. Its Jacobian, the KKT matrix

    K = ∇²_(y,μ) L = [[H, Jᵀ], [J, −C]] ,

is symmetric: H = ∂²L/∂y², J the rows of ∂(h, g)/∂y that are active (others are zero), and C diagonal,
1 for inactive rows and 0 for all others.

The central path of interior-point methods has the same form: with a barrier κ > 0,

    L(x, y, μ) = f + λᵀh + Σ (ν_i g_i + κ log ν_i)

gives ν_i (−g_i) = κ, and C = κ/ν_i² for inequality rows (Nocedal and Wright 2006, section 19.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.functional import gradient, reverse
from ddn.problem import Problem

__all__ = ["Lagrangian"]


@dataclass(frozen=True)
class Lagrangian:
    """L of a problem, batched.

    Attributes:
        problem: objective and constraints.
        barrier: κ; zero for the conditions of the problem itself.
    """

    problem: Problem
    barrier: float = 0.0

    def value(
        self, y: Tensor, multipliers: Tensor, active: Tensor, operands: Sequence[Tensor]
    ) -> Tensor:
        """L for every problem, ``(*batch,)``.

        Args:
            y: ``(*batch, m)``.
            multipliers: μ, ``(*batch, p + q)``.
            active: the active set, booleans ``(*batch, q)``.
            operands: inputs and captured tensors.
        """
        problem = self.problem
        if not problem.is_constrained:
            return problem.objective(y, operands)
        q = active.shape[-1]

        def single(y: Tensor, multipliers: Tensor, active: Tensor, *operands: Tensor) -> Tensor:
            total = problem.objective_of_one(y, *operands)
            if problem.has_equality:
                h = problem.equality_of_one(y, *operands)
                total = total + multipliers[: len(h)] @ h
            if q:
                total = total + self._inequality_terms(
                    problem.inequality_of_one(y, *operands), multipliers[-q:], active
                )
            return total

        return problem.vectorize(single, (1, 1, 1), (y, multipliers, active), operands)

    def _inequality_terms(self, g: Tensor, nu: Tensor, active: Tensor) -> Tensor:
        if self.barrier:
            return nu @ g + self.barrier * nu.log().sum()
        return torch.where(active, nu * g, -nu.square() / 2).sum()

    def stationarity(
        self, y: Tensor, multipliers: Tensor, active: Tensor, operands: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """F = (∇_y L, ∇_μ L): zero at a solution. Shapes ``(*batch, m)`` and ``(*batch, p + q)``."""
        first, second = gradient(
            lambda y, multipliers: self.value(y, multipliers, active, operands).sum(),
            y,
            multipliers,
        )
        return first, second

    def kkt_product(
        self,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        operands: Sequence[Tensor],
        direction: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """K (u, s) by one reverse pass through F (K is symmetric)."""
        _, pullback = reverse(
            lambda y, multipliers: self.stationarity(y, multipliers, active, operands),
            y,
            multipliers,
        )
        first, second = pullback(direction)
        return first, second

    def hessian(
        self, y: Tensor, multipliers: Tensor, active: Tensor, operands: Sequence[Tensor]
    ) -> Tensor:
        """H ``(*batch, m, m)`` by m reverse passes, mapped at once."""

        # The basis is mapped inside the batch: outside, every batched operand would be copied m times.
        def single(y: Tensor, multipliers: Tensor, active: Tensor, *operands: Tensor) -> Tensor:
            def first(y: Tensor) -> Tensor:
                return gradient(lambda y: self.value(y, multipliers, active, operands), y)[0]

            _, pullback = reverse(first, y)
            basis = torch.eye(len(y), dtype=y.dtype, device=y.device)
            rows: Tensor = torch.func.vmap(lambda e: pullback(e)[0])(basis)
            return rows

        return self.problem.vectorize(single, (1, 1, 1), (y, multipliers, active), operands)
