"""Class means of one batch about a global mean, over all processes of a distributed run.

There are two global means of a batch in which class k has n_k of N samples:

    μ_G = (1/N) Σ_i h_i = Σ_k (n_k/N) μ_k        over samples, as published,
    μ_B = (1/K_B) Σ_k μ_k                         over the K_B classes in the batch ("balanced").

They agree where all classes are equally frequent. On imbalanced data μ_G lies close to the mean of
the frequent classes, and what is learned of the classes, D_k = μ_k - μ_G, is distorted: with two
classes and shares p and 1-p,

    D_1 = (1-p)(μ_1 - μ_2),   D_2 = -p (μ_1 - μ_2),

so that the frequent class has next to no weight in the choice of the frame. A simplex ETF is centred
(its vectors add up to zero), and about μ_B so are the means: Σ_k D_k = 0 over the classes in the
batch, whatever their sizes. The same mean in the bias b = -W μ_B then puts the decision boundaries
halfway between the means of two classes in place of close to the frequent one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed

from ddn_etf.distributed import is_distributed, sum_over_ranks

__all__ = ["BatchMeans", "batch_means"]


class BatchMeans(NamedTuple):
    """How the means of one batch follow from its features: as products with constant weights.

    All means are taken about a nearby origin o, so that a large common offset of the features does
    not drown their differences. It cancels, hence it needs no gradient. With H (N, d) the features and
    A (N, K + 1) the weights of the class means minus those of the global mean, and last those of the
    global mean,

        [D, μ - o] = (H - 1 oᵀ)ᵀ A,   summed over the ranks of a distributed run.

    Attributes:
        counts: (K,) int64, samples of each class.
        weights: A, (N, K + 1).
        origin: o, (d,).
        shared: whether the sum is over all ranks.
        units: bound on the rounding error in D, as a multiple of the largest entry of H - 1 oᵀ.
    """

    counts: Tensor
    weights: Tensor
    origin: Tensor
    shared: bool
    units: float

    def of(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The means of features H: D (d, K), the global mean (d,), and a bound on the error in D.

        D is arbitrary for absent classes. Differentiable to any order in the features; the bound is a
        constant. One all-reduce of about d K numbers if shared, and one more in the backward pass.
        """
        shifted = features - self.origin
        products = shifted.mT @ self.weights
        largest = shifted.detach().abs().amax()
        if self.shared:
            # In one buffer. A maximum over ranks comes out of a sum if each has its own place.
            maxima = features.new_zeros(distributed.get_world_size())
            maxima[distributed.get_rank()] = largest
            buffer = sum_over_ranks(torch.cat([products.flatten(), maxima]))
            flat, maxima = buffer.split([products.numel(), maxima.numel()])
            products, largest = flat.reshape(products.shape), maxima.detach().amax()
        deviations, mean = products.split([products.shape[1] - 1, 1], dim=1)
        return deviations, self.origin + mean.squeeze(1), self.units * largest

    def pull_back(self, deviations: Tensor | None, mean: Tensor) -> Tensor:
        """Gradient for the features, A [D̄, μ̄]ᵀ, from those for D (None: zero) and the global mean.

        With :func:`ddn_etf.distributed.sum_over_ranks` the gradient is summed over ranks as well.
        """
        if deviations is None and not self.shared:
            return self.weights[:, -1:] @ mean.unsqueeze(0)
        if deviations is None:  # what is summed must have one shape on all ranks
            deviations = mean.new_zeros(len(mean), len(self.counts))
        cotangent = torch.cat([deviations.mT, mean.unsqueeze(0)])
        return self.weights @ (sum_over_ranks(cotangent) if self.shared else cotangent)


def batch_means(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    class_balanced: bool = False,
    synchronize: bool = True,
) -> BatchMeans:
    """The weights of class means minus the global mean.

    Args:
        features: h, (N, d), float32 or float64.
        labels: (N,), int64. A label outside 0..K-1 counts for μ_G only.
        num_classes: K.
        class_balanced: take μ_B for the global mean in place of μ_G.
        synchronize: take all means over all ranks of a distributed run. One all-reduce here, of about
            d + K numbers.
    """
    member = labels.unsqueeze(1) == torch.arange(num_classes, device=labels.device)
    counts = member.sum(dim=0)
    own_sum, size = features.detach().sum(dim=0), features.shape[0]
    shared = synchronize and is_distributed()
    if shared:
        own_sum, counts, size = _over_ranks(own_sum, counts, size)
    in_class = member / counts.clamp(min=1).to(features.dtype)
    if class_balanced:
        in_all = in_class.sum(dim=1, keepdim=True) / (counts > 0).sum().clamp(min=1)
        weights = torch.cat([in_class - in_all, in_all], dim=1)
    else:
        # Of all samples, with the same weight.
        weights = torch.nn.functional.pad(in_class - 1 / size, (0, 1), value=1 / size)
    # A sum of N rounded terms is off by about √N units in the last place; the factor is a margin.
    units = 8 * size**0.5 * torch.finfo(features.dtype).eps
    return BatchMeans(counts, weights, own_sum / size, shared, units)


def _over_ranks(own_sum: Tensor, counts: Tensor, size: int) -> tuple[Tensor, Tensor, int]:
    """Sum of the features, samples of each class and number of samples over all ranks."""
    own = torch.cat([own_sum, counts.to(own_sum.dtype), own_sum.new_tensor([size])])
    total, seen, samples = sum_over_ranks(own).split([len(own_sum), len(counts), 1])
    return total, seen.round().long(), round(samples.item())
