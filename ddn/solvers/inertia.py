"""The step of Newton's method on the KKT system, with the inertia of a minimum."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ddn.kkt.dense import assemble
from ddn.linear_solve import equilibrate, factorize

__all__ = ["inertia_corrected_step"]

# Growth of the shift until the inertia is right (Wächter and Biegler 2006, section 3.1).
_FIRST_SHIFT, _GROWTH, _MAX_SHIFTS = 1e-4, 8.0, 24


def _attempts(gap: float, num_constraints: int) -> Iterator[tuple[float, float]]:
    """Pairs (δ, γ) in the order in which they are tried."""
    yield 0.0, 0.0
    if num_constraints:
        yield 0.0, gap
    for power in range(_MAX_SHIFTS):
        yield _FIRST_SHIFT * _GROWTH**power, gap


def inertia_corrected_step(
    stationarity: Tensor, constraint: Tensor, hessian: Tensor, jacobian: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton step d, change of the multipliers, and whether H has no negative curvature where A d = 0.

    Solves [[H + δD, Aᵀ], [A, −γE]] (d, Δλ) = (−∇_y L, −h): with δ = γ = 0 if the matrix has m positive and
    p negative eigenvalues, else with γ > 0 (for a rank-deficient A), else with the smallest δ of a geometric
    sequence for which it has. D and E are the diagonal scaling of the equilibrated matrix. A step of zero
    means ∇_y L = 0 and h = 0, whatever δ and γ.

    Args:
        stationarity: ∇_y L, ``(batch, m)``.
        constraint: h, ``(batch, p)``.
        hessian: H, ``(batch, m, m)``.
        jacobian: A, ``(batch, p, m)``.
    """
    m, p = jacobian.shape[-1], jacobian.shape[-2]
    matrix = assemble(hessian, jacobian)
    finite = matrix.isfinite().flatten(-2).all(-1)
    identity = torch.eye(m + p, dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(finite[:, None, None], matrix, identity)
    scale = equilibrate(matrix, m)
    scaled = matrix * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    right = (-torch.cat([stationarity, constraint], -1) * scale).unsqueeze(-1)
    eps = torch.finfo(matrix.dtype).eps

    solution = torch.zeros_like(right)
    convex = torch.ones_like(finite)
    pending = torch.arange(len(matrix), device=matrix.device)
    # Shifts are relative to H: equilibration may leave it much smaller than A.
    size = scaled[:, :m, :m].abs().amax((-2, -1))
    size = torch.where(size > 0, size, 1)
    for attempt, (shift, gap) in enumerate(_attempts(eps**0.5, p)):
        diagonal = torch.cat(
            [
                (shift * size[pending]).unsqueeze(-1).expand(-1, m),
                matrix.new_full((len(pending), p), -gap),
            ],
            -1,
        )
        shifted = scaled[pending] + torch.diag_embed(diagonal)
        factorization = factorize(shifted)
        blocks = factorization.block_eigenvalues()
        threshold = 10 * (m + p) * eps * blocks.abs().amax(-1, keepdim=True)
        negative = (blocks < -threshold).sum(-1)
        if attempt == 0:
            convex = negative <= p
        right_inertia = (negative == p) & (blocks.abs() > threshold).all(-1)
        step = factorization.solve(right[pending])
        residual = right[pending] - shifted @ step
        solution[pending] = step + factorization.solve(residual)
        pending = pending[~right_inertia]
        if len(pending) == 0:
            break
    solution = solution.squeeze(-1) * scale
    solution = torch.where(finite.unsqueeze(-1), solution, torch.nan)
    return solution[:, :m], solution[:, m:], convex & finite
