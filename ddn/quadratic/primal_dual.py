"""A primal-dual active-set method for a batch of strictly convex quadratic programs.

For an active set a of the rows J = (A, G), the optimality conditions give y and the multipliers; rows with a
negative multiplier then leave the set, violated rows enter it, all at once, until nothing changes. That is
Newton's method for the conditions written as equations, ν = max(0, ν + c (G y − h)) (Hintermüller, Ito and
Kunisch 2003): it ends after a few rounds or goes in circles, and where it ends, it has the solution.

Everything happens in the space of multipliers. With Q = L Lᵀ, W = L⁻¹Jᵀ, S = WᵀW and t = L⁻¹q,

    y = −L⁻ᵀ(t + W μ),        J y − c = e − S μ,        e = −Wᵀt − c.

Equality rows are always held, and leave the system once and for all: with S_AA = C Cᵀ, X = C⁻¹S_AG and
a = C⁻¹e_A,

    λ = C⁻ᵀ(a − X ν),         G y − h = (e_G − Xᵀa) − R ν,          R = S_GG − XᵀX,

so that a round is one factorization of the rows of R that are held. L, W and the factor of S, which is put
together from C, X and that of R, are what the derivative needs, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ddn.quadratic.active_set import ActiveSetSystem, factor_of_hessian
from ddn.quadratic.data import QuadraticData, times
from ddn.quadratic.factor import TriangularFactor, are_pivots_regular, factor_regular

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
    size, p, k = len(active), data.num_equalities, data.num_inequalities
    factor, regular = factor_of_hessian(data)
    half = factor.columns(data.rows)
    gram = half.mT @ half
    forward = factor.lower(data.q)
    excess = (-times(half.mT, forward) - data.right).expand(size, p + k)
    dual = _Reduced.of(gram, excess, p)
    found = _rounds(dual, active, max_rounds)
    multipliers = dual.all_multipliers(found.multipliers)
    schur, independent = dual.whole_factor(found.held, found.factor)
    y = -factor.upper(forward + times(half, multipliers))
    usable = (regular & independent).expand(size)
    solved = found.solved & usable & y.isfinite().all(-1)
    kept = torch.cat([found.held.new_ones(size, p), found.held], -1)
    system = ActiveSetSystem(data, kept, None, factor, half, schur, None, usable)
    return DualSolution(y, multipliers, solved, found.rounds, system)


@dataclass(frozen=True)
class _Reduced:
    """The problem for ν alone; names as in the formulas above, matrices ``(batch, ...)`` or shared."""

    S: Tensor
    C: Tensor
    X: Tensor
    a: Tensor
    R: Tensor
    # −∞ where a right side is infinite, which is no constraint.
    excess: Tensor
    # Of the terms of the excess.
    sizes: Tensor
    independent: Tensor

    @classmethod
    def of(cls, S: Tensor, e: Tensor, p: int) -> _Reduced:
        C, X, R = S[..., :p, :p], S[..., :p, p:], S[..., p:, p:]
        a, excess = e[:, :p], e[:, p:]
        sizes, independent = excess.abs(), S.new_ones(S.shape[:-2], dtype=torch.bool)
        if p:
            C, independent = factor_regular(C)
            X, a = torch.linalg.solve_triangular(C, X, upper=False), TriangularFactor(C).lower(a)
            taken = times(X.mT, a)
            R, excess, sizes = R - X.mT @ X, excess - taken, sizes + taken.abs()
        return cls(S, C, X, a, R, excess, sizes, independent)

    def all_multipliers(self, nu: Tensor) -> Tensor:
        """(λ, ν)."""
        if not self.a.shape[-1]:
            return nu
        return torch.cat([TriangularFactor(self.C).upper(self.a - times(self.X, nu)), nu], -1)

    def whole_factor(self, held: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """The factor of S, with 1 for rows that are not held, and where these rows are independent."""
        p, k = self.a.shape[-1], held.shape[-1]
        whole = factor
        if p:
            whole = factor.new_zeros(len(held), p + k, p + k)
            whole[:, :p, :p], whole[:, p:, p:] = self.C, factor
            torch.mul(self.X.mT, held.unsqueeze(-1), out=whole[:, p:, :p])
        # Pivots beside the rows themselves, not beside what equality constraints leave of them.
        pivots = factor.diagonal(dim1=-2, dim2=-1).square()
        own = self.S.diagonal(dim1=-2, dim2=-1)[..., p:]
        independent = (~held | are_pivots_regular(pivots, own, p + k)).all(-1)
        return whole, independent & self.independent


class _Found(NamedTuple):
    multipliers: Tensor
    held: Tensor
    factor: Tensor
    solved: Tensor
    rounds: Tensor


def _rounds(dual: _Reduced, active: Tensor, max_rounds: int) -> _Found:
    R, excess = dual.R, dual.excess
    rounding = _ROUNDING * torch.finfo(R.dtype).eps
    least = rounding * dual.sizes
    diagonal = R.diagonal(dim1=-2, dim2=-1)
    identity = torch.eye(R.shape[-1], dtype=R.dtype, device=R.device)
    rounds = torch.zeros(len(active), dtype=torch.int64, device=R.device)
    running = torch.ones_like(rounds, dtype=torch.bool)
    # The first round of a cold start, where nothing is held, needs no factorization.
    cold = ~active.any(-1, keepdim=True)
    wanted = active & (excess != -torch.inf) | (excess > least) & cold
    for _ in range(max_rounds):
        held = wanted
        both = held.unsqueeze(-1) & held.unsqueeze(-2)
        factor, info = torch.linalg.cholesky_ex(torch.where(both, R, identity))
        right = torch.where(held, excess, 0).unsqueeze(-1)
        multipliers = torch.cholesky_solve(right, factor)
        change = (multipliers.mT @ R).squeeze(-2)
        multipliers = multipliers.squeeze(-1)
        # A multiplier in units of the violation that it takes back.
        signed = torch.where(held, multipliers * diagonal, excess - change)
        wanted = signed > torch.add(least, change.abs(), alpha=rounding)
        changed = (wanted != held).any(-1)
        rounds += running
        running = changed
        if not bool(changed.any()):
            break
    return _Found(multipliers, held, factor, ~changed & (info == 0), rounds)
