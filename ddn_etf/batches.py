"""The order of the training samples, as a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from ddn.errors import DeclarativeNodeError

__all__ = ["BatchSizeError", "ShuffledBatches", "epoch_seed"]


class BatchSizeError(DeclarativeNodeError, ValueError):
    """A batch that the training samples cannot fill."""


class ShuffledBatches(Sampler[list[int]]):
    """Batches of indices, shuffled anew in every epoch; those that fill no batch are left out.

    No state passes from one epoch to the next, so that a run resumed at any epoch sees the batches
    that it would have seen. Lightning calls :meth:`set_epoch` before every epoch.

    Args:
        size: N, number of samples.
        batch_size: samples per batch.
        seed: of the run.

    Raises:
        BatchSizeError: ``batch_size`` is below 1 or above ``size``.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= size:
            raise BatchSizeError(
                f"batch_size = {batch_size} must lie between 1 and the number of training samples, "
                f"{size}; otherwise no batch can be filled"
            )
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the one of this epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order: list[int] = torch.randperm(self.size, generator=generator).tolist()
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]


def epoch_seed(seed: int, epoch: int) -> int:
    """One number for a pair; different pairs with epochs below 2^20 have different numbers."""
    return (seed << 20) + epoch
