"""The order of the training samples, as a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Sampler

from ddn.errors import DeclarativeNodeError, DtypeError, ShapeError
from ddn_etf.errors import LabelError

__all__ = [
    "BATCHES",
    "BatchOrder",
    "BatchSizeError",
    "Shuffled",
    "ShuffledBatches",
    "Stratified",
    "StratifiedBatches",
    "check_seed",
    "epoch_seed",
]


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
        TypeError: the seed is not an integer.
        ValueError: the seed is none of :func:`check_seed`.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        check_seed(seed)
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
        order: list[int] = self.order(generator).tolist()
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def order(self, generator: torch.Generator) -> Tensor:
        """All samples, (N,), in the order of one epoch."""
        return torch.randperm(self.size, generator=generator)


class StratifiedBatches(ShuffledBatches):
    """Shuffled batches in which every class has nearly its share of the whole set.

    Of the n_k samples of class k, in random order, the j-th is put at (j + u_k)/n_k of the epoch,
    j = 0, 1, ..., with u_k uniform on [0, 1), and batches are cut from what lies there in turn. A
    batch of B of the N samples then holds n_k B/N of class k up to an error below 1 + n_k K/N (2 for
    equal classes, where plain shuffling strays by about √(B/K)), and every class with
    n_k >= N/(B - K) is in every batch. Class means taken from batches become that much steadier.

    Why: the piece of the epoch that a batch is cut from has some length L, and n_k L ± 1 samples of
    class k lie in it. Summed over the classes, B = N L ± K.

    As :class:`ShuffledBatches`, a function of seed and epoch alone.

    Args:
        labels: (N,), integers from 0.
        batch_size: samples per batch.
        seed: of the run.

    Raises:
        BatchSizeError: ``batch_size`` is below 1 or above N.
        TypeError, ValueError: the seed is none of :func:`check_seed`.
        ShapeError: labels are not (N,).
        DtypeError: labels are not integers.
        LabelError: a label is negative.
    """

    def __init__(self, labels: Tensor, batch_size: int, seed: int) -> None:
        _check_labels(labels)
        super().__init__(len(labels), batch_size, seed)
        self.labels = labels.detach().cpu().long()

    def order(self, generator: torch.Generator) -> Tensor:
        """All samples, (N,), with every class spread evenly over the epoch."""
        counts = torch.bincount(self.labels)
        # Shuffled, then sorted by class: each class one block in random order.
        shuffled = torch.randperm(self.size, generator=generator)
        by_class = shuffled[self.labels[shuffled].argsort(stable=True)]
        label = self.labels[by_class]
        first = counts.cumsum(dim=0) - counts
        rank = torch.arange(self.size) - first[label]
        offset = torch.rand(len(counts), generator=generator, dtype=torch.float64)
        place = (rank + offset[label]) / counts[label]
        return by_class[place.argsort(stable=True)]


class BatchOrder(Protocol):
    """What a run needs to make its batches; a frozen dataclass with this method is one."""

    def build(self, labels: Tensor, batch_size: int, seed: int) -> ShuffledBatches:
        """The batches of the samples with these labels, (N,)."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """:class:`ShuffledBatches`: all samples in random order."""

    def build(self, labels: Tensor, batch_size: int, seed: int) -> ShuffledBatches:
        """The batches of a run."""
        return ShuffledBatches(len(labels), batch_size, seed)


@dataclass(frozen=True)
class Stratified:
    """:class:`StratifiedBatches`: every class has nearly its share of each batch."""

    def build(self, labels: Tensor, batch_size: int, seed: int) -> ShuffledBatches:
        """The batches of a run."""
        return StratifiedBatches(labels, batch_size, seed)


BATCHES: dict[str, BatchOrder] = {"shuffled": Shuffled(), "stratified": Stratified()}
"""The orders of samples by their names on the command line."""


def epoch_seed(seed: int, epoch: int) -> int:
    """One number for a pair; different pairs with epochs below 2^20 have different numbers."""
    return (int(seed) << 20) + epoch


def check_seed(seed: int) -> None:
    """Check that a number can be the seed of a run.

    A generator of PyTorch takes 64 bits, of which the epoch has 20 (:func:`epoch_seed`).

    Raises:
        TypeError: not an integer.
        ValueError: not in -2^43, ..., 2^43 - 1.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer, found {seed!r}")
    if not -(2**43) <= seed < 2**43:
        raise ValueError(
            f"seed must lie in -2^43, ..., 2^43 - 1 = {2**43 - 1}, found {seed}: seed and epoch share "
            "the 64 bits of a generator"
        )


def _check_labels(labels: Tensor) -> None:
    if labels.ndim != 1:
        raise ShapeError(f"labels must have shape (N,), found {tuple(labels.shape)}")
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise DtypeError(
            f"labels must be integer class indices, found {labels.dtype}; convert them with .long()"
        )
    negative = torch.nonzero(labels < 0).flatten()
    if len(negative):
        raise LabelError(
            f"labels[{int(negative[0])}] is {int(labels[negative[0]])}; classes are numbered from 0"
        )
