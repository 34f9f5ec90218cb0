"""What limited-memory quasi-Newton methods remember: steps and the changes of the gradient along them.

The inverse Hessian is never formed. With pairs s, z = ∇f(y + s) − ∇f(y), its product with a vector is the
two-loop recursion (Nocedal 1980; Nocedal and Wright 2006, algorithm 7.4), O(memory · m) in time and space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.optimality import largest

__all__ = ["CurvaturePairs"]


@dataclass(frozen=True)
class CurvaturePairs:
    """The pairs of a batch, newest first.

    A pair that says nothing of some problem is zero there: each problem has a history of its own. Steps and
    changes have length 1, so that no square of them underflows, whatever the units.

    Attributes:
        steps: s / ‖s‖_∞, ``(batch, m)`` each.
        changes: z / ‖z‖_∞, ``(batch, m)`` each.
        ratios: ‖s‖_∞ / ‖z‖_∞, ``(batch,)`` each; zero where a pair does not count.
    """

    steps: tuple[Tensor, ...] = ()
    changes: tuple[Tensor, ...] = ()
    ratios: tuple[Tensor, ...] = ()

    def add(self, step: Tensor, change: Tensor, memory: int) -> CurvaturePairs:
        """With a new pair; the oldest is forgotten.

        Where the curvature sᵀz is not positive beside rounding errors, the pair would spoil the positive
        definite approximation, and does not count.
        """
        length, size = largest(step), largest(change)
        step = step / torch.where(length > 0, length, 1).unsqueeze(-1)
        change = change / torch.where(size > 0, size, 1).unsqueeze(-1)
        ratio = length / torch.where(size > 0, size, 1)
        valid = _is_convex(step, change) & ratio.isfinite() & (ratio > 0)
        keep = valid.unsqueeze(-1)
        return CurvaturePairs(
            (torch.where(keep, step, 0), *self.steps)[:memory],
            (torch.where(keep, change, 0), *self.changes)[:memory],
            (torch.where(valid, ratio, 0), *self.ratios)[:memory],
        )

    def select(self, index: Tensor) -> CurvaturePairs:
        """The problems ``index``."""
        return CurvaturePairs(
            tuple(step[index] for step in self.steps),
            tuple(change[index] for change in self.changes),
            tuple(ratio[index] for ratio in self.ratios),
        )

    def forget(self, mask: Tensor) -> CurvaturePairs:
        """Without the pairs of the problems of ``mask``."""
        if not bool(mask.any()):
            return self
        keep = (~mask).unsqueeze(-1)
        return CurvaturePairs(
            tuple(torch.where(keep, step, 0) for step in self.steps),
            tuple(torch.where(keep, change, 0) for change in self.changes),
            tuple(torch.where(mask, 0, ratio) for ratio in self.ratios),
        )

    def curvature(self, like: Tensor) -> Tensor:
        """The largest ‖z‖_∞ / ‖s‖_∞, ``(batch,)``: a lower estimate of the size of the Hessian."""
        result = like.new_zeros(like.shape[:-1])
        for ratio in self.ratios:
            result = torch.maximum(result, torch.where(ratio > 0, 1 / ratio, 0))
        return result

    def count(self, like: Tensor) -> Tensor:
        """How many pairs count, ``(batch,)``."""
        result = torch.zeros(like.shape[:-1], dtype=torch.int64, device=like.device)
        for ratio in self.ratios:
            result = result + (ratio > 0)
        return result

    def solve(self, gradient: Tensor, free: Tensor | None, otherwise: Tensor) -> Tensor:
        """The approximate inverse Hessian of the free variables times a vector, ``(batch, m)``.

        Args:
            gradient: the vector, zero for variables that are not free.
            free: mask ``(batch, m)``; None means all.
            otherwise: inverse curvature for problems without pairs, ``(batch,)``.
        """
        steps, changes = self.steps, self.changes
        if free is not None:
            steps = tuple(step * free for step in steps)
            changes = tuple(change * free for change in changes)
        scale, found = otherwise, torch.zeros_like(otherwise, dtype=torch.bool)
        inverses = []
        for step, change, ratio in zip(steps, changes, self.ratios, strict=True):
            product = (step * change).sum(-1)
            # Among the free variables alone a pair may be without curvature.
            valid = (ratio > 0) & (_is_convex(step, change) if free is not None else True)
            inverses.append(torch.where(valid, 1 / torch.where(valid, product, 1), 0))
            latest = valid & ~found
            square = torch.where(latest, change.square().sum(-1), 1)
            scale = torch.where(latest, ratio * product / square, scale)
            found = found | valid
        result, weights = gradient, []
        for step, change, inverse in zip(steps, changes, inverses, strict=True):
            weight = inverse * (step * result).sum(-1)
            weights.append(weight)
            result = torch.addcmul(result, change, weight.unsqueeze(-1), value=-1)
        result = result * scale.unsqueeze(-1)
        for i in reversed(range(len(steps))):
            back = inverses[i] * (changes[i] * result).sum(-1)
            correction = self.ratios[i] * weights[i] - back
            result = torch.addcmul(result, steps[i], correction.unsqueeze(-1))
        return result


def _is_convex(step: Tensor, change: Tensor) -> Tensor:
    eps = torch.finfo(step.dtype).eps
    result: Tensor = (step * change).sum(-1) > eps * change.norm(dim=-1) * step.norm(dim=-1)
    return result
