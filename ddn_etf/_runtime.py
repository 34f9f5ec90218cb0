"""Surroundings of a training run: deterministic, and without messages that say nothing here."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["lightning_quietly", "reproducible"]

_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
)

_NOT_FOR_THE_USER = (
    # The loaders here index tensors in memory; worker processes would only cost time.
    ".*does not have many workers.*",
    # A run that is resumed has a checkpoint there; only files of the same name are replaced.
    "Checkpoint directory .* exists and is not empty.*",
    # Only its choice of a best checkpoint starts anew in another folder, and none is made here.
    ".*dirpath has changed.*",
    # Lightning 2.6 uses a name that PyTorch 2.13 is about to drop.
    ".*LeafSpec.* is deprecated.*",
)


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seed PyTorch, fix its threads and allow deterministic algorithms only, for one block.

    The random state, the number of threads and the choice of algorithms that the caller had are
    put back at the end.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark_before = torch.backends.cudnn.benchmark
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_only_before)
            torch.backends.cudnn.benchmark = benchmark_before


@contextmanager
def lightning_quietly() -> Iterator[None]:
    """Silence what Lightning says about hardware and its own code; nothing else.

    An interrupt from the keyboard, which Lightning turns into ``SystemExit`` while it ignores all
    later ones, leaves the block as the ``KeyboardInterrupt`` that it was.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels_before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _NOT_FOR_THE_USER:
                warnings.filterwarnings("ignore", message=message)
            yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from stop
    finally:
        for logger, level in zip(loggers, levels_before, strict=True):
            logger.setLevel(level)
