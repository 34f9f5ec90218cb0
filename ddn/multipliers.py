"""Multipliers of a solution that comes without them.

They solve the stationarity condition ∇f + Jᵀμ = 0 in the least-squares sense; those of inequality
constraints are nonnegative, and zero where a constraint is not active.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from ddn.linear_solve import solve_symmetric

__all__ = ["least_squares_multipliers", "nonnegative_multipliers"]


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


def nonnegative_multipliers(gradient: Tensor, jacobian: Tensor, candidate: Tensor) -> Tensor:
    """(λ, ν) = argmin ‖∇f + Aᵀλ + Gᵀν‖²  subject to  ν ≥ 0, and ν_i = 0 but for candidates.

    Where plain least squares gives ν ≥ 0, that is the answer; the remaining problems go one by one
    through the active-set method of Lawson and Hanson (1974) in SciPy.

    Args:
        gradient: ∇f, ``(*batch, m)``.
        jacobian: rows of equalities, then of inequalities, ``(*batch, p + q, m)``.
        candidate: which inequalities may have a multiplier, ``(*batch, q)``.

    Returns:
        μ ``(*batch, p + q)``.
    """
    q = candidate.shape[-1]
    p = jacobian.shape[-2] - q
    kept = torch.cat([candidate.new_ones(*candidate.shape[:-1], p), candidate], -1)
    jacobian = torch.where(kept.unsqueeze(-1), jacobian, 0)
    multipliers = least_squares_multipliers(gradient, jacobian)
    # Rows of zeros get zero up to rounding: none of it may look like a multiplier.
    multipliers = torch.where(kept, multipliers, 0)
    size = multipliers.abs().amax(-1, keepdim=True)
    tolerance = torch.finfo(gradient.dtype).eps ** 0.5 * size
    negative = (multipliers[..., p:] < -tolerance).any(-1)
    for index in negative.nonzero().tolist():
        where = tuple(index)
        multipliers[where] = _lawson_hanson(gradient[where], jacobian[where], p).to(gradient)
    return multipliers


def _lawson_hanson(gradient: Tensor, jacobian: Tensor, p: int) -> Tensor:
    rows = jacobian.detach().cpu().double().numpy()
    target = -gradient.detach().cpu().double().numpy()
    if not (np.isfinite(rows).all() and np.isfinite(target).all()):
        return torch.full((len(rows),), torch.nan)
    # λ is free: the difference of two nonnegative vectors.
    matrix = np.concatenate([rows[:p], -rows[:p], rows[p:]]).T
    try:
        found, _ = scipy.optimize.nnls(matrix, target)
    except RuntimeError:  # more iterations than SciPy allows
        return torch.full((len(rows),), torch.nan)
    return torch.as_tensor(np.concatenate([found[:p] - found[p : 2 * p], found[2 * p :]]))
