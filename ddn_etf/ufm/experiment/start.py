"""Where the runs of an experiment begin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddn_etf.heads import Head
from ddn_etf.methods import Method
from ddn_etf.ufm.experiment.settings import ExperimentSettings

__all__ = ["starting_point"]


def starting_point(
    method: Method, settings: ExperimentSettings, seed: int
) -> tuple[nn.Parameter, Head, Tensor]:
    """Features f (N, d), head and labels (N,), as the seed says.

    Features have independent N(0, 1) entries, the same for all heads and, to rounding, for both dtypes.

    Args:
        method: which head.
        settings: sizes and numbers.
        seed: of all random numbers; the global state of torch is left as it is.
    """
    dtype = torch.float64 if settings.double else torch.float32
    K, n = settings.num_classes, settings.samples_per_class
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(K * n, settings.dim, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = method.build(settings.dim, K, settings.temperature).to(dtype).train()
    labels = torch.arange(K).repeat_interleave(n)
    return nn.Parameter(gaussian.to(dtype)), head, labels
