"""KKT systems by the minimum-residual method, with products only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.equilibration import row_scale
from ddn.kkt.free_system import FreeSystem
from ddn.kkt.system import KKTFactorization, KKTSystem

__all__ = ["MINRES", "MINRESFactorization", "minimum_residual"]

# Products for one estimate of the sizes of the rows of K.
_PROBES = 8
# The recursive residual goes this much further than the true one must, so that one pass is enough.
_MARGIN = 0.1


@dataclass(frozen=True)
class MINRES:
    """The minimum-residual method for the whole KKT matrix, which may be indefinite.

    (Paige and Saunders 1975.)

    For many variables and many rows: neither H nor J is formed, one iteration is one reverse pass through
    the optimality conditions, and memory is O(m + p + q). Bounds are eliminated, y and μ are scaled so that
    their blocks of K are of one size, and rows of very different sizes are equilibrated. A singular system
    gives the solution of minimum norm (in this scale) if there is one. Every problem of a batch,
    and every right side, converges on its own.

    Attributes:
        tolerance: relative residual at which the iteration ends; None for ε^(3/4), 1.8e-12 in float64. Ten
            times as much, in the true residual, counts as solved.
        max_iterations: for one right side; None for ten times the number of rows of K, but no more than 5000.
    """

    tolerance: float | None = None
    max_iterations: int | None = None

    def factorize(self, system: KKTSystem) -> KKTFactorization:
        """Linearize."""
        return MINRESFactorization(system, self)


class MINRESFactorization:
    """Products with K in scaled variables.

    Args:
        system: the KKT system.
        options: of the solver.
    """

    failure = (
        "MINRES did not converge there: the KKT matrix is singular and the direction asked for lies outside "
        "its range, or it is ill-conditioned. Use ddn.kkt.Dense() if the problem is small enough, make the "
        "objective strictly convex in the free directions (a small proximal term), pass more max_iterations "
        "to ddn.kkt.MINRES, or use on_failure='nan' to get NaN in exactly these problems."
    )

    def __init__(self, system: KKTSystem, options: MINRES) -> None:
        eps = torch.finfo(system.y.dtype).eps
        self._tolerance = eps**0.75 if options.tolerance is None else options.tolerance
        limit = min(10 * (system.num_variables + system.num_general_rows), 5000)
        self._max_iterations = limit if options.max_iterations is None else options.max_iterations
        self._free = FreeSystem(system, None)
        self._held = system.row_weight[..., : system.num_general_rows] > 0
        self._scale = self._balance()

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ddn.kkt.system.KKTFactorization`."""
        return self._free.solve(
            right_y, right_multipliers, self._correct, self._tolerance, 10 * self._tolerance
        )

    def _balance(self) -> Tensor:
        """Scale of y and of the rows, ``(*batch, m + r)``: all rows of the scaled K are of size 1."""
        first, second = self._free.probe
        held = self._held
        curvature = first.square().mean(-1, keepdim=True).sqrt()
        count = held.sum(-1, keepdim=True).clamp_min(1)
        slope = (torch.where(held, second, 0).square().sum(-1, keepdim=True) / count).sqrt()
        curvature, slope = (torch.where(size > 0, size, 1) for size in (curvature, slope))
        # Where C is larger than J H⁻¹ Jᵀ, it decides.
        complement = slope.square() / curvature + self._free.corner
        weight, fixed = self._free.weight, self._free.fixed
        diagonal = curvature.expand(first.shape) if weight is None else curvature + weight
        scale = torch.cat([diagonal, complement], -1).rsqrt()
        free = torch.ones_like(first, dtype=torch.bool) if fixed is None else ~fixed
        kept = torch.cat([free, held], -1)
        sizes = row_scale(lambda x: self._product(x, scale), scale, kept, _PROBES, signed=False)
        return scale * sizes.rsqrt()

    def _product(self, x: Tensor, scale: Tensor) -> Tensor:
        """T K T x for the free variables and the rows that are held."""
        m = self._free.system.num_variables
        moved = scale * x
        first, second = self._free.product(self._free.free(moved[..., :m]), moved[..., m:])
        second = torch.where(self._held, second, 0)
        return scale * torch.cat([self._free.free(first), second], -1)

    def _correct(
        self, right_y: Tensor, right_rows: Tensor, pending: Tensor
    ) -> tuple[Tensor, Tensor]:
        m, held, scale = right_y.shape[-1], self._held, self._scale
        # Inactive rows stand alone: −C s = r.
        alone = torch.where(held, 0, -right_rows / torch.where(held, 1, self._free.corner))
        right = scale * torch.cat([right_y, torch.where(held, right_rows, 0)], -1)
        found = scale * minimum_residual(
            lambda x: self._product(x, scale),
            right,
            pending,
            _MARGIN * self._tolerance,
            self._max_iterations,
        )
        return found[..., :m], found[..., m:] + alone


def minimum_residual(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    pending: Tensor,
    tolerance: float,
    max_iterations: int,
) -> Tensor:
    """x that minimizes ‖A x − b‖ over growing Krylov spaces, for symmetric A (Paige and Saunders 1975).

    Where A is singular, x is the least-squares solution of minimum norm if b is in the range of A; else the
    iteration ends when A r is negligible.

    Args:
        product: x ↦ A x, ``(*batch, n)``.
        right: b.
        pending: which problems to solve, ``(*batch,)``; the others get zero.
        tolerance: ‖r‖/‖b‖ at which a problem ends.
        max_iterations: of all.
    """
    eps = torch.finfo(right.dtype).eps
    negligible = max(tolerance, 100 * eps)
    x = torch.zeros_like(right)
    beta = _norm(right)
    residual = beta  # the norm of b − A x
    running = pending & (beta > 0)
    previous, current = torch.zeros_like(right), _divide(right, beta)
    old_direction, direction = torch.zeros_like(right), torch.zeros_like(right)
    # A rotation (c, s) of the last step, and what it leaves of the tridiagonal matrix.
    cosine, sine = -torch.ones_like(beta), torch.zeros_like(beta)
    bar, above = torch.zeros_like(beta), torch.zeros_like(beta)
    limit, beta = tolerance * beta, torch.zeros_like(beta)
    size = torch.zeros_like(beta)  # of A, squared, from the tridiagonal matrix
    for _ in range(max_iterations):
        if not bool(running.any()):
            break
        # Lanczos: A v = β v_next + α v + β_last v_last.
        following = product(current) - beta.unsqueeze(-1) * previous
        alpha = (following * current).sum(-1)
        following = following - alpha.unsqueeze(-1) * current
        last, beta = beta, _norm(following)
        size = torch.maximum(size, last.square() + alpha.square() + beta.square())
        # QR of the tridiagonal matrix by rotations.
        second = cosine * bar + sine * alpha
        diagonal = sine * bar - cosine * alpha
        two_above, above = above, sine * beta
        bar = -cosine * beta
        # ‖A r‖/‖r‖: zero at a least-squares solution.
        normal = torch.hypot(diagonal, bar)
        running = running & (normal > negligible * size.sqrt())
        pivot = torch.hypot(diagonal, beta)
        pivot = torch.where(pivot > 0, pivot, 1)
        cosine, sine = diagonal / pivot, beta / pivot
        combined = current - two_above.unsqueeze(-1) * old_direction
        combined = combined - second.unsqueeze(-1) * direction
        old_direction, direction = direction, combined / pivot.unsqueeze(-1)
        step = torch.where(running, cosine * residual, 0)
        x = x + torch.where(running.unsqueeze(-1), step.unsqueeze(-1) * direction, 0)
        residual = sine * residual
        running = running & (residual > limit) & (beta > 10 * eps * size.sqrt())
        previous, current = current, _divide(following, beta)
    return x


def _norm(vector: Tensor) -> Tensor:
    result: Tensor = vector.norm(dim=-1)
    return result


def _divide(vector: Tensor, size: Tensor) -> Tensor:
    return vector / torch.where(size > 0, size, 1).unsqueeze(-1)
