"""A primal-dual active-set method for a batch of strictly convex quadratic programs.

For an active set a of the rows J = (A, G), the optimality conditions give y and the multipliers; rows with a
negative multiplier then leave the set, violated rows enter it, all at once, until nothing changes. That is
Newton's method for the conditions written as equations, ν = max(0, ν + c (G y − h)) (Hintermüller, Ito and
Kunisch 2003): it ends after a few rounds or goes in circles, and where it ends, it has the solution.

Everything happens in the space of multipliers. With Q = L Lᵀ, W = L⁻¹Jᵀ, S = WᵀW and t = L⁻¹q,

    y = −L⁻ᵀ(t + W μ),        J y − c = e − S μ,        e = −Wᵀt − c,

so that a round is one factorization of S_aa, and L, W and that are what the derivative needs, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.quadratic.active_set import (
    ActiveSetSystem,
    factor_regular,
    is_regular,
    solve_lower,
    solve_upper,
)
from ddn.quadratic.data import QuadraticData, times

__all__ = ["DualSolution", "find_active_set"]

# Multipliers and violations below this many units of rounding count as zero.
_ROUNDING = 100.0


@dataclass(frozen=True)
class DualSolution:
    """What the method has found.

    Attributes:
        y: ``(batch, n)``.
        rows: multipliers of A and G, ``(batch, p + k)``.
        solved: where the active set is that of the solution, ``(batch,)``.
        rounds: factorizations, ``(batch,)``.
        system: of the active sets.
    """

    y: Tensor
    rows: Tensor
    solved: Tensor
    rounds: Tensor
    system: ActiveSetSystem


def find_active_set(data: QuadraticData, active: Tensor, max_rounds: int) -> DualSolution:
    """Solve what the method solves.

    Args:
        data: without bounds, one batch dimension or none.
        active: rows of G to begin with, ``(batch, k)``.
        max_rounds: before it gives up.
    """
    size, p, rows = len(active), data.num_equalities, data.rows
    factor, regular = factor_regular(data.symmetric)
    if not bool(regular.all()):
        identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        factor = torch.where(regular[..., None, None], factor, identity)
    half = torch.linalg.solve_triangular(factor, rows.mT, upper=False)
    gram = half.mT @ half
    forward = solve_lower(factor, data.q)
    excess = (-times(half.mT, forward) - data.right).expand(size, rows.shape[-2])
    # What is infinite is no constraint.
    exists = excess != -torch.inf
    excess = excess.masked_fill(~exists, -1)
    held = torch.cat([active.new_ones(size, p), active], -1) & exists
    rounding = _ROUNDING * torch.finfo(data.q.dtype).eps
    rounds = torch.zeros(size, dtype=torch.int64, device=held.device)
    solved = torch.zeros(size, dtype=torch.bool, device=held.device)
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    for _ in range(max_rounds):
        rounds += ~solved
        weight = held.to(gram.dtype)
        masked = gram * weight.unsqueeze(-1) * weight.unsqueeze(-2)
        masked.diagonal(dim1=-2, dim2=-1).add_(1 - weight)
        schur, failed = torch.linalg.cholesky_ex(masked)
        multipliers = torch.cholesky_solve((excess * weight).unsqueeze(-1), schur).squeeze(-1)
        # A multiplier in units of the violation that it takes back.
        change = times(gram, multipliers)
        least = rounding * (excess.abs() + change.abs())
        wanted = exists & (torch.where(held, multipliers * diagonal, excess - change) > least)
        wanted[:, :p] = True
        solved = (wanted == held).all(-1)
        if bool(solved.all()):
            break
        held = wanted
    independent = (failed == 0) & is_regular(masked, schur)
    y = -solve_upper(factor, forward + times(half, multipliers))
    usable = (regular & independent).expand(size)
    solved = solved & usable & y.isfinite().all(-1)
    system = ActiveSetSystem(data, held, None, factor, half, schur, None, usable)
    return DualSolution(y, multipliers, solved, rounds, system)
