"""The symmetric system of a primal-dual step, regularized until a step along it leads downhill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.dense import assemble
from ddn.linear_solve import SymmetricFactorization, equilibrate, factorize

__all__ = ["RegularizedSystem"]

# Growth of the shift until the inertia is right (Wächter and Biegler 2006, section 3.1).
_FIRST_SHIFT, _GROWTH, _MAX_SHIFTS = 1e-4, 8.0, 20


@dataclass(frozen=True)
class RegularizedSystem:
    """[[M + δD, Aᵀ], [A, −γE]], factorized, with the inertia (m, p, 0).

    δ = γ = 0 if the matrix has that inertia, else γ > 0 (for a rank-deficient A), else the smallest δ of a
    geometric sequence for which it has. D and E are the diagonal scaling of the equilibrated matrix, so that
    δ and γ have no units. (Wächter and Biegler 2006, section 3.1.)

    Attributes:
        matrix: equilibrated and regularized, ``(batch, m + p, m + p)``.
        scale: of the equilibration, ``(batch, m + p)``.
        factorization: of ``matrix``.
        convex: whether M has no negative curvature where A d = 0, ``(batch,)``.
    """

    matrix: Tensor
    scale: Tensor
    factorization: SymmetricFactorization
    convex: Tensor

    @classmethod
    def of(cls, hessian: Tensor, jacobian: Tensor) -> RegularizedSystem:
        """Regularize and factorize.

        Args:
            hessian: M, ``(batch, m, m)``.
            jacobian: A, ``(batch, p, m)``.
        """
        m, p = jacobian.shape[-1], jacobian.shape[-2]
        matrix = assemble(hessian, jacobian)
        finite = matrix.isfinite().flatten(-2).all(-1)
        if not bool(finite.all()):
            identity = torch.eye(m + p, dtype=matrix.dtype, device=matrix.device)
            matrix = torch.where(finite[:, None, None], matrix, identity)
        scale = equilibrate(matrix, m)
        scaled = matrix * scale.unsqueeze(-1) * scale.unsqueeze(-2)
        # Shifts are relative to M: equilibration may leave it much smaller than A.
        size = scaled[:, :m, :m].abs().amax((-2, -1)) if m else scaled.new_ones(len(scaled))
        size = torch.where(size > 0, size, 1)

        eps = torch.finfo(matrix.dtype).eps
        attempts = _attempts(eps**0.5, p)
        next(attempts)
        first = factorize(scaled)
        right, negative = _inertia(first, p, m)
        convex = negative <= p
        if bool(right.all()):
            return cls(scaled, scale, first, convex & finite)
        factors, pivots, used = first.factors.clone(), first.pivots.clone(), scaled.clone()
        pending = (~right).nonzero().squeeze(-1)
        for shift, gap in attempts:
            diagonal = torch.cat(
                [
                    (shift * size[pending]).unsqueeze(-1).expand(-1, m),
                    scaled.new_full((len(pending), p), -gap),
                ],
                -1,
            )
            shifted = scaled[pending] + torch.diag_embed(diagonal)
            factorization = factorize(shifted)
            factors[pending], pivots[pending] = factorization.factors, factorization.pivots
            used[pending] = shifted
            right, _ = _inertia(factorization, p, m)
            pending = pending[~right]
            if len(pending) == 0:
                break
        return cls(used, scale, SymmetricFactorization(factors, pivots), convex & finite)

    def select(self, index: Tensor) -> RegularizedSystem:
        """Some problems of the batch."""
        factors, pivots = self.factorization.factors[index], self.factorization.pivots[index]
        return RegularizedSystem(
            self.matrix[index],
            self.scale[index],
            SymmetricFactorization(factors, pivots),
            self.convex[index],
        )

    def solve(self, right_y: Tensor, right_constraint: Tensor) -> tuple[Tensor, Tensor]:
        """(d, Δλ) for a right side ``(batch, m)`` and ``(batch, p)``."""
        m = right_y.shape[-1]
        right = (torch.cat([right_y, right_constraint], -1) * self.scale).unsqueeze(-1)
        solution = self.factorization.solve(right)
        # One step of iterative refinement: LDLᵀ loses digits to element growth.
        solution = solution + self.factorization.solve(right - self.matrix @ solution)
        solution = solution.squeeze(-1) * self.scale
        return solution[:, :m], solution[:, m:]


def _attempts(small: float, num_constraints: int) -> Iterator[tuple[float, float]]:
    """Pairs (δ, γ) in the order in which they are tried."""
    yield 0.0, 0.0
    gap = small if num_constraints else 0.0
    if num_constraints:
        yield 0.0, gap
    # Directions without curvature need hardly any; negative curvature needs as much as there is.
    yield small**1.5, gap
    yield small, gap
    for power in range(_MAX_SHIFTS):
        yield _FIRST_SHIFT * _GROWTH**power, gap


def _inertia(factorization: SymmetricFactorization, p: int, m: int) -> tuple[Tensor, Tensor]:
    """Whether it is (m, p, 0), and the number of negative eigenvalues."""
    blocks = factorization.block_eigenvalues()
    if m + p == 0:
        nothing = blocks.new_zeros(blocks.shape[:-1])
        return nothing == 0, nothing
    eps = torch.finfo(blocks.dtype).eps
    threshold = 10 * (m + p) * eps * blocks.abs().amax(-1, keepdim=True)
    negative = (blocks < -threshold).sum(-1)
    return (negative == p) & (blocks.abs() > threshold).all(-1), negative
