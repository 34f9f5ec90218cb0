"""How several processes share data: each takes its part of every batch, and of every split.

A batch of B samples is dealt out so that process r of R has B/R of them. The mean of the processes'
gradients, which data-parallel training takes, is then the gradient of the whole batch: a run on R
processes computes what a run on one process with the same batch size does, apart from layers that
look at their own part only, as batch normalisation does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed
from torch.utils.data import Sampler

from ddn_etf.batches import ShuffledBatches

__all__ = ["BatchShard", "SplitShard", "gather_rows", "rank_and_size"]


class BatchShard(Sampler[list[int]]):
    """Of every batch, the part of one process: the samples r, r + R, r + 2R, ...

    Args:
        batches: the batches of all processes together; the same on every process.
        rank: r, of this process.
        size: R, number of processes; divides the batch size.
    """

    def __init__(self, batches: ShuffledBatches, rank: int, size: int) -> None:
        if batches.batch_size % size:
            raise ValueError(
                f"batches of {batches.batch_size} samples cannot be dealt out to {size} processes "
                "in equal parts; make the batch size a multiple of it"
            )
        self.batches, self.rank, self.size = batches, rank, size

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the one of this epoch, counted from 0."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield batch[self.rank :: self.size]


class SplitShard(Sampler[list[int]]):
    """One process's part of a whole split, in order, in batches: every sample is in one part only.

    Parts are contiguous, so that the parts of all processes one after the other are the split. They
    differ in length by at most one; a part may be empty.

    Args:
        samples: N, length of the split.
        batch_size: at most so many samples at once.
        rank: r, of this process.
        size: R, number of processes.
    """

    def __init__(self, samples: int, batch_size: int, rank: int, size: int) -> None:
        self.first, self.last = rank * samples // size, (rank + 1) * samples // size
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil((self.last - self.first) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(self.first, self.last, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.last)))


def rank_and_size() -> tuple[int, int]:
    """The number of this process and how many there are; (0, 1) without torch.distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gather_rows(parts: Sequence[Tensor], empty: Tensor) -> Tensor:
    """The rows of all processes, in the order of the processes, on every process.

    Args:
        parts: tensors (n, ...) of this process, to be joined; there may be none.
        empty: (0, ...), what no parts amount to.

    Returns:
        (N, ...), on the device of ``empty``.
    """
    rows = torch.cat([*parts]) if parts else empty
    _, size = rank_and_size()
    if size == 1:
        return rows
    everything: list[Tensor | None] = [None] * size
    distributed.all_gather_object(everything, rows.cpu())
    return torch.cat([part for part in everything if part is not None]).to(rows.device)
