"""The step of Newton's method on the KKT system, with the inertia of a minimum."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.kkt import assemble
from ddn.linear_solve import equilibrate, factorize

__all__ = ["inertia_corrected_step"]

# Growth of the shift until the inertia is right (Wächter and Biegler 2006, section 3.1).
_FIRST_SHIFT, _GROWTH, _MAX_SHIFTS = 1e-4, 8.0, 24


def inertia_corrected_step(
    stationarity: Tensor, constraint: Tensor, hessian: Tensor, jacobian: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton step d, change of the multipliers, and whether H has no negative curvature where A d = 0.

    Solves [[H + δD, Aᵀ], [A, −γE]] (d, Δλ) = (−∇_y L, −h), with the smallest δ of a geometric sequence for
    which the matrix has m positive and p negative eigenvalues; γ > 0 only with δ > 0, for a rank-deficient
    A. D and E are the diagonal scaling of the equilibrated matrix. A step of zero means ∇_y L = 0 and
    h = 0, whatever δ and γ.

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
    scale = equilibrate(matrix)
    scaled = matrix * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    right = (-torch.cat([stationarity, constraint], -1) * scale).unsqueeze(-1)
    eps = torch.finfo(matrix.dtype).eps

    solution = torch.zeros_like(right)
    convex = torch.ones_like(finite)
    pending = torch.arange(len(matrix), device=matrix.device)
    shift = 0.0
    for attempt in range(_MAX_SHIFTS):
        signs = torch.ones(m + p, dtype=matrix.dtype, device=matrix.device)
        signs[m:] = -(eps**0.5) / shift if shift else 0
        factorization = factorize(scaled[pending] + torch.diag(shift * signs))
        blocks = factorization.block_eigenvalues()
        threshold = 10 * (m + p) * eps * blocks.abs().amax(-1, keepdim=True)
        negative = (blocks < -threshold).sum(-1)
        if attempt == 0:
            convex = negative <= p
        right_inertia = (negative == p) & (blocks.abs() > threshold).all(-1)
        step = factorization.solve(right[pending])
        residual = right[pending] - (scaled[pending] + torch.diag(shift * signs)) @ step
        solution[pending] = step + factorization.solve(residual)
        pending = pending[~right_inertia]
        if len(pending) == 0:
            break
        shift = shift * _GROWTH if shift else _FIRST_SHIFT
    solution = (solution.squeeze(-1)) * scale
    solution = torch.where(finite.unsqueeze(-1), solution, torch.nan)
    return solution[:, :m], solution[:, m:], convex & finite
