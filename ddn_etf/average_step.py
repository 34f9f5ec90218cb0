"""One step of the running class means, as a function of the features of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddn_etf._lengths import unit_norm
from ddn_etf.batch_means import BatchMeans

__all__ = ["AverageStep"]


class AverageStep(NamedTuple):
    """What the running means become, by the features H of the batch; all else is a constant.

        [D, μ] = means of the batch,   R = (1 - α) R_before + α D,   Y = R/‖R‖_F.

    Attributes:
        batch: how the means of the batch follow from H.
        before: R_before, (d, K).
        alpha: α, (K,); zero for classes that the batch does not hold.
        unit: () the largest entry of R, or infinity if R counts as zero.
        norm: () ‖R‖_F as a multiple of ``unit``.
    """

    batch: BatchMeans
    before: Tensor
    alpha: Tensor
    unit: Tensor
    norm: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors in it, for :meth:`with_tensors`."""
        return (*self.batch[:3], *self[1:])

    def with_tensors(self, tensors: Sequence[Tensor]) -> AverageStep:
        """The same with the tensors given."""
        counts, weights, origin, *others = tensors
        batch = self.batch._replace(counts=counts, weights=weights, origin=origin)
        return AverageStep(batch, *others)

    def without_tensors(self) -> AverageStep:
        """The same, holding no memory."""
        return self.with_tensors([torch.empty(0)] * len(self.tensors()))

    def means(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Y (d, K) and μ (d,) of features (N, d); differentiable to any order."""
        deviations, global_mean, _ = self.batch.of(features)
        averaged = torch.lerp(self.before, deviations, self.alpha)
        return unit_norm(averaged, self.unit)[0], global_mean

    def pull_back(self, means: Tensor, grad_means: Tensor | None, grad_mean: Tensor) -> Tensor:
        """Gradient for the features, (N, d), from those for Y (None: zero) and μ.

        R̄ = (Ȳ - Y ⟨Y, Ȳ⟩)/‖R‖,   D̄ = α R̄,   H̄ = A [D̄, μ̄]ᵀ.
        """
        if grad_means is None:
            return self.batch.pull_back(None, grad_mean)
        across = torch.addcmul(grad_means, means, (means * grad_means).sum(), value=-1)
        deviations = across.mul_(self.alpha).div_(self.norm).div_(self.unit)
        return self.batch.pull_back(deviations, grad_mean)
