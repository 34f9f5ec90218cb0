"""KKT systems with positive definite Hessian, by Cholesky factorizations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddn.kkt.dense import DenseFactorization
from ddn.kkt.fallback import replaced
from ddn.kkt.linearized import apply_matrix
from ddn.kkt.system import KKTFactorization, KKTSystem
from ddn.optimality import largest, relative_to

__all__ = ["SchurComplement", "SchurComplementFactorization"]


@dataclass(frozen=True)
class SchurComplement:
    """Block elimination with Cholesky factors: H = L Lᵀ, then S = A H⁻¹ Aᵀ,

        S s = A H⁻¹ r_y − r_A,        u = H⁻¹ (r_y − Aᵀ s).

    A little cheaper than :class:`~ddn.kkt.Dense` where H, the Hessian of L plus what eliminated rows add to
    it, is positive definite and A has full rank. Where that is not so, or one correction does not bring the
    residual to the level of rounding, the problem goes through LDLᵀ as in :class:`~ddn.kkt.Dense`; the other
    problems of the batch stay.
    """

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Assemble the blocks and factorize."""
        return SchurComplementFactorization(system)


class SchurComplementFactorization:
    """Cholesky factors of the reduced system."""

    failure = DenseFactorization.failure

    def __init__(self, system: KKTSystem) -> None:
        self._system = system
        self._reduced = reduced = system.reduced()
        hessian, jacobian = reduced.hessian, reduced.jacobian
        self._factor, info = torch.linalg.cholesky_ex(hessian)
        self._regular = info == 0
        self._half = torch.linalg.solve_triangular(self._factor, jacobian.mT, upper=False)
        schur = self._half.mT @ self._half
        if not reduced.is_whole:
            schur = schur + torch.diag_embed(reduced.padding.to(schur.dtype))
        self._schur, info = torch.linalg.cholesky_ex(schur)
        self._regular = self._regular & (info == 0)
        self._dense: dict[tuple[int, ...], DenseFactorization] = {}

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ddn.kkt.system.KKTFactorization`."""
        right = self._reduced.reduce_right_side(right_y, right_multipliers)
        u, s = self._eliminate(*right)
        residual = self._residual(right, u, s)
        accurate = self._regular & self._is_small(residual, right, u, s)
        change = self._eliminate(*residual)
        u, s = u + change[0], s + change[1]
        s = self._reduced.expand_solution(u, s, right_multipliers)
        failed = torch.zeros_like(accurate)
        if bool(accurate.all()):
            return u, s, failed
        return self._with_dense(accurate, (u, s, failed), right_y, right_multipliers)

    def _eliminate(self, right_y: Tensor, right_rows: Tensor) -> tuple[Tensor, Tensor]:
        batch = self._factor.shape[:-2]
        extra = right_y.shape[: right_y.ndim - 1 - len(batch)]
        first, second = (
            part.reshape(extra.numel(), *batch, part.shape[-1]).movedim(0, -1)
            for part in (right_y, right_rows)
        )
        half = torch.linalg.solve_triangular(self._factor, first, upper=False)
        s = torch.cholesky_solve(self._half.mT @ half - second, self._schur)
        u = torch.linalg.solve_triangular(self._factor.mT, half - self._half @ s, upper=True)
        return (
            u.movedim(-1, 0).reshape(right_y.shape),
            s.movedim(-1, 0).reshape(right_rows.shape),
        )

    def _residual(
        self, right: tuple[Tensor, Tensor], u: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        hessian, jacobian = self._reduced.hessian, self._reduced.jacobian
        first = right[0] - apply_matrix(hessian, u) - apply_matrix(jacobian.mT, s)
        return first, right[1] - apply_matrix(jacobian, u)

    def _is_small(
        self,
        residual: tuple[Tensor, Tensor],
        right: tuple[Tensor, Tensor],
        u: Tensor,
        s: Tensor,
    ) -> Tensor:
        """Whether one correction gains half of the digits, ``(*extra, *batch)``: then it is enough."""
        limit = torch.finfo(u.dtype).eps ** 0.5
        hessian, rows, columns = self._norms
        terms_y = largest(right[0]) + hessian * largest(u) + columns * largest(s)
        terms_rows = largest(right[1]) + rows * largest(u)
        result: Tensor = (relative_to(largest(residual[0]), terms_y) <= limit) & (
            relative_to(largest(residual[1]), terms_rows) <= limit
        )
        return result

    @cached_property
    def _norms(self) -> tuple[Tensor, Tensor, Tensor]:
        hessian, jacobian = self._reduced.hessian, self._reduced.jacobian
        return (
            largest(hessian.abs().sum(-1)),
            largest(jacobian.abs().sum(-1)),
            largest(jacobian.abs().sum(-2)),
        )

    def _with_dense(
        self,
        accurate: Tensor,
        found: tuple[Tensor, Tensor, Tensor],
        right_y: Tensor,
        right_multipliers: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same with the problems that are not accurate solved anew."""
        count = self._reduced.hessian.shape[:-2].numel()
        index = (~accurate).reshape(-1, count).any(0).nonzero().squeeze(-1)
        key = tuple(index.tolist())
        if key not in self._dense:
            reduced = self._reduced.select(index)
            system = self._system.select(index)
            self._dense[key] = DenseFactorization(reduced, lambda: reduced.significant(system))
        return replaced(found, self._dense[key], index, count, (right_y, right_multipliers))
