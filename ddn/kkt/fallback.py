"""A second linear solver for the problems that the first one cannot solve."""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.kkt.system import KKTFactorization, KKTSolver, KKTSystem

__all__ = ["WithFallback", "replaced"]


class WithFallback:
    """Solves with a first factorization, and the problems that fail with another linear solver.

    Args:
        system: the KKT system.
        first: its factorization.
        other: factorizes those problems of the system that need it, when they do.
    """

    def __init__(self, system: KKTSystem, first: KKTFactorization, other: KKTSolver) -> None:
        self._system = system
        self._first = first
        self._other = other
        self._second: dict[tuple[int, ...], KKTFactorization] = {}
        self._hopeless = False
        self.failure = first.failure

    def solve(self, right_y: Tensor, right_multipliers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ddn.kkt.system.KKTFactorization`."""
        count = self._system.batch_shape.numel()
        if self._hopeless:
            u, s = torch.empty_like(right_y), torch.empty_like(right_multipliers)
            failed = torch.ones(u.shape[:-1], dtype=torch.bool, device=u.device)
        else:
            u, s, failed = self._first.solve(right_y, right_multipliers)
            self._hopeless = bool(failed.all())
        if not bool(failed.any()):
            return u, s, failed
        # All right sides of a problem that fails for one: they share a factorization.
        index = failed.reshape(-1, count).any(0).nonzero().squeeze(-1)
        key = tuple(index.tolist())
        if key not in self._second:
            self._second[key] = self._other.factorize(self._system.select(index))
        second = self._second[key]
        self.failure = second.failure
        return replaced((u, s, failed), second, index, count, (right_y, right_multipliers))


def replaced(
    found: tuple[Tensor, Tensor, Tensor],
    other: KKTFactorization,
    index: Tensor,
    count: int,
    right: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """What a solve returned, with some problems solved by another factorization.

    Args:
        found: u ``(*extra, *batch, m)``, s ``(*extra, *batch, p + q)`` and failed ``(*extra, *batch)``.
        other: of the problems ``index``, in one batch dimension.
        index: positions in the flattened batch.
        count: number of problems in the batch.
        right: the right side of all problems.
    """
    extra = found[2].numel() // count
    first, second = (part.reshape(extra, count, part.shape[-1])[:, index] for part in right)
    new = other.solve(first, second)
    u, s = (part.reshape(extra, count, part.shape[-1]).clone() for part in found[:2])
    failed = found[2].reshape(extra, count).clone()
    u[:, index], s[:, index], failed[:, index] = new
    return u.reshape(found[0].shape), s.reshape(found[1].shape), failed.reshape(found[2].shape)
