"""The KKT system without its constraints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem

__all__ = ["Unconstrained"]


@dataclass(frozen=True)
class Unconstrained:
    """Solves H u = r_y in place of K (u, s) = (r_y, r_μ), with s = 0: an approximation.

    Attributes:
        linear_solver: solves with H.
    """

    linear_solver: KKTSolver

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Of H, which is that of the Lagrangian at the solution."""
        return UnconstrainedFactorization(self.linear_solver.factorize(_without_rows(system)))


class UnconstrainedFactorization:
    """H⁻¹, and zero for all multipliers."""

    def __init__(self, hessian: KKTFactorization) -> None:
        self._hessian = hessian
        self.failure = hessian.failure

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ddn.kkt.system.KKTFactorization`."""
        u, _, failed = self._hessian.solve(right_y, right_multipliers[..., :0])
        return u, torch.zeros_like(right_multipliers), failed


@dataclass(frozen=True)
class _HessianSystem(KKTSystem):
    """H of another system, as a system without constraints."""

    full: KKTSystem | None = None

    def hessian(self) -> Tensor:
        assert self.full is not None
        return self.full.hessian()

    def jacobian(self) -> Tensor:
        return self.y.new_zeros(*self.y.shape[:-1], 0, self.num_variables)

    def product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        assert self.full is not None
        zeros = u.new_zeros(*u.shape[:-1], self.full.num_constraints)
        return self.full.product(u, zeros)[0], s

    def hessian_product(self, u: Tensor) -> Tensor:
        assert self.full is not None
        return self.full.hessian_product(u)

    def repeated_product(self, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return self.hessian_product(u), s

    def select(self, index: Tensor) -> KKTSystem:
        assert self.full is not None
        return _without_rows(self.full.select(index))


def _without_rows(system: KKTSystem) -> KKTSystem:
    return _HessianSystem(
        system.lagrangian,
        system.y,
        system.multipliers[..., :0],
        system.active[..., :0],
        system.operands,
        full=system,
    )
