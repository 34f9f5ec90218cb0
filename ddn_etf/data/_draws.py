"""What random numbers of data sets are drawn from."""

from __future__ import annotations

import torch

from ddn_etf.validation import check_count

__all__ = ["seeded_generator"]


def seeded_generator(seed: int) -> torch.Generator:
    """A generator on the host, whatever the default device is.

    Raises:
        TypeError: the seed is not an integer.
        ValueError: the seed is negative.
    """
    check_count("seed", seed, 0)
    return torch.Generator(device="cpu").manual_seed(seed)
