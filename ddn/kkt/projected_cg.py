"""KKT systems by conjugate gradients on the null space of the active constraints.

The preconditioner is the KKT matrix with a diagonal G in place of the Hessian (:mod:`ddn.kkt.
constraint_preconditioner`): every direction satisfies J u = C s, and on that subspace K is positive
definite at a strict minimum, so that conjugate gradients converge although K is indefinite (Gould, Hribar and
Nocedal 2001; with C, Dollar, Gould, Schilders and Wathen 2006). The multipliers are iterated along with u, so
that the whole residual goes to zero and not only its projection, whose digits would cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.blocks import BlockInverse, BlockMatrix
from ddn.kkt.constraint_preconditioner import ConstraintPreconditioner
from ddn.kkt.free_system import FreeSystem
from ddn.kkt.system import KKTFactorization, KKTSystem

__all__ = ["ProjectedCG", "ProjectedCGFactorization"]

# The recursive residual goes this much further than the true one must, so that one pass is enough.
_MARGIN = 0.1


@dataclass(frozen=True)
class ProjectedCG:
    """Conjugate gradients on the null space of the active constraints, by products with the Hessian of L.

    For many variables and few rows of ``equality`` and ``inequality``; bounds cost O(m). The Hessian must
    be positive definite on the null space, as at a strict minimum. Time O(m r + r²) and one reverse pass an
    iteration, and r reverse passes and O(m r² + r³) before the first, for r rows; memory O(m (1 + r)).
    Every problem of a batch, and every right side, converges on its own.

    Attributes:
        tolerance: relative residual at which the iteration ends; None for ε^(3/4), 1.8e-12 in float64. Ten
            times as much, in the true residual, counts as solved.
        max_iterations: for one right side; None for 10 m, but no more than 5000.
        preconditioner: gives the diagonal G, ``(*batch, m)``, for a system, such as
            :class:`~ddn.kkt.HutchinsonDiagonal`; None for a multiple of the identity. What bounds add with
            ``smoothing`` is added to it.
    """

    tolerance: float | None = None
    max_iterations: int | None = None
    preconditioner: Callable[[KKTSystem], Tensor] | None = None

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Linearize, and factorize the preconditioner."""
        return ProjectedCGFactorization(system, self)


class ProjectedCGFactorization:
    """The preconditioner, and the products.

    Args:
        system: the KKT system.
        options: of the solver.
    """

    failure = (
        "Conjugate gradients did not converge there: the objective has no curvature, or negative curvature, "
        "in a free direction (the point is no strict minimum), or the system is ill-conditioned. Use "
        "ddn.kkt.MINRES() or ddn.kkt.Dense(), add a proximal term, pass a better preconditioner or more "
        "max_iterations to ddn.kkt.ProjectedCG, or use on_failure='nan' to get NaN in exactly these problems."
    )

    def __init__(self, system: KKTSystem, options: ProjectedCG) -> None:
        eps = torch.finfo(system.y.dtype).eps
        self._tolerance = eps**0.75 if options.tolerance is None else options.tolerance
        limit = min(10 * system.num_variables, 5000)
        self._max_iterations = limit if options.max_iterations is None else options.max_iterations
        self._free = FreeSystem(system, system.general_jacobian())
        diagonal = self._diagonal(system, options)
        self._metric = BlockMatrix(diagonal.unsqueeze(-1).unsqueeze(-1), system.num_variables)
        assert self._free.rows is not None
        self._preconditioner = ConstraintPreconditioner(
            BlockInverse(self._metric, self._free.fixed), self._free.rows, self._free.corner
        )

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ddn.kkt.system.KKTFactorization`."""
        return self._free.solve(
            right_y, right_multipliers, self._iterate, self._tolerance, 10 * self._tolerance
        )

    def _diagonal(self, system: KKTSystem, options: ProjectedCG) -> Tensor:
        """G with W, positive."""
        if options.preconditioner is None:
            typical = self._free.probe[0].square().mean(-1, keepdim=True).sqrt()
            diagonal = torch.where(typical > 0, typical, 1).expand(system.y.shape)
        else:
            diagonal = options.preconditioner(system).expand(system.y.shape)
            positive = torch.where(diagonal > 0, diagonal, 0)
            size = positive.amax(-1, keepdim=True)
            floor = torch.finfo(diagonal.dtype).eps * torch.where(size > 0, size, 1)
            diagonal = torch.maximum(positive, floor)
        return diagonal if self._free.weight is None else diagonal + self._free.weight

    def _iterate(
        self, right_y: Tensor, right_rows: Tensor, pending: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Preconditioned conjugate gradients for K (u, s) = r, where ``pending``."""
        u, s = torch.zeros_like(right_y), torch.zeros_like(right_rows)
        residual_y, residual_rows = right_y, right_rows
        if bool((right_rows != 0).any()):
            # Start at a point that satisfies the constraints; all steps keep to them.
            u, s = self._preconditioner.solve(torch.zeros_like(right_y), right_rows)
            first, second = self._free.product(u, s)
            residual_y, residual_rows = self._free.free(right_y - first), right_rows - second
        step_y, step_rows = self._preconditioner.solve(residual_y, residual_rows)
        energy = _dot(residual_y, step_y)
        eps = torch.finfo(right_y.dtype).eps
        metric = self._metric.diagonal()
        floor = eps**2 * (residual_y.square() / metric).sum(-1)
        limit = torch.maximum((_MARGIN * self._tolerance) ** 2 * energy, floor)
        running = pending & (energy > limit)
        for _ in range(self._max_iterations):
            if not bool(running.any()):
                break
            product_y, product_rows = self._free.product(step_y, step_rows)
            product_y = self._free.free(product_y)
            curvature = _dot(step_y, product_y) + _dot(step_rows, product_rows)
            # Curvature that is not positive ends it: the residual stays, and the problem fails.
            running = running & (curvature > 10 * eps * _dot(step_y, metric * step_y))
            length = torch.where(running, energy / curvature, 0).unsqueeze(-1)
            u, s = u + length * step_y, s + length * step_rows
            residual_y = residual_y - length * product_y
            residual_rows = residual_rows - length * product_rows
            next_y, next_rows = self._preconditioner.solve(residual_y, residual_rows)
            new_energy = _dot(residual_y, next_y)
            ratio = torch.where(running, new_energy / energy, 0).unsqueeze(-1)
            step_y, step_rows = next_y + ratio * step_y, next_rows + ratio * step_rows
            energy = new_energy
            running = running & (energy > limit)
        # What is left of the residual is a combination of rows that are held: their multipliers take it.
        _, rest = self._preconditioner.solve(residual_y, residual_rows)
        return u, torch.where(self._free.corner == 0, s + rest, s)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(-1)
