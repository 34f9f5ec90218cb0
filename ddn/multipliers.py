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

# Beyond this size the sign of an estimated multiplier is what it is, and the node says so.
_MAX_ONE_BY_ONE = 1000


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


def nonnegative_multipliers(
    gradient: Tensor, jacobian: Tensor, candidate: Tensor, bounded: bool = False
) -> Tensor:
    """(λ, ν) = argmin ‖∇f + Aᵀλ + Gᵀν‖²  subject to  ν ≥ 0, and ν_i = 0 but for candidates.

    Where plain least squares gives ν ≥ 0, that is the answer; the remaining problems go one by one
    through the active-set method of Lawson and Hanson (1974) in SciPy. Bounds cost no matrix: the
    multiplier of a bound takes what the other constraints leave of ∇f in its variable.

    Args:
        gradient: ∇f, ``(*batch, m)``.
        jacobian: rows of equalities, then of inequalities without bounds, ``(*batch, r, m)``.
        candidate: which inequalities may have a multiplier, ``(*batch, q)``.
        bounded: whether the last 2m inequalities are lower and upper bounds.

    Returns:
        μ ``(*batch, p + q)``.
    """
    m = gradient.shape[-1]
    q = candidate.shape[-1] - (2 * m if bounded else 0)
    p = jacobian.shape[-2] - q
    near, lower, upper = candidate.split([q, m, m] if bounded else [q, 0, 0], -1)
    kept = torch.cat([near.new_ones(*near.shape[:-1], p), near], -1)
    jacobian = torch.where(kept.unsqueeze(-1), jacobian, 0)
    free = ~(lower | upper) if bounded else None
    reduced = (gradient, jacobian)
    if free is not None:
        reduced = (torch.where(free, gradient, 0), torch.where(free.unsqueeze(-2), jacobian, 0))
    # Rows of zeros get zero up to rounding: none of it may look like a multiplier.
    stated = torch.where(kept, least_squares_multipliers(*reduced), 0)
    multipliers = [stated]
    if bounded:
        left = gradient + (jacobian.mT @ stated.unsqueeze(-1)).squeeze(-1)
        # With one bound near, its multiplier shows its sign; with both, it belongs to one of them.
        multipliers.append(torch.where(lower, torch.where(upper, left.clamp_min(0), left), 0))
        multipliers.append(torch.where(upper, torch.where(lower, (-left).clamp_min(0), -left), 0))
    result = torch.cat(multipliers, -1)
    if not result.shape[-1]:
        return result
    size = torch.maximum(result.abs().amax(-1), gradient.abs().amax(-1)).unsqueeze(-1)
    tolerance = torch.finfo(gradient.dtype).eps ** 0.5 * size
    negative = (result[..., p:] < -tolerance).any(-1)
    if m <= _MAX_ONE_BY_ONE:
        for index in negative.nonzero().tolist():
            where = tuple(index)
            rows, own = jacobian[where], candidate[where]
            if bounded:
                eye = torch.eye(m, dtype=rows.dtype, device=rows.device)
                rows = torch.cat([rows, -eye, eye])
                rows = torch.where(torch.cat([own.new_ones(p), own]).unsqueeze(-1), rows, 0)
            result[where] = _lawson_hanson(gradient[where], rows, p).to(gradient)
    return result


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
