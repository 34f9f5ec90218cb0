"""Train several heads with several seeds, and summarise what came out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ddn_etf.data import Dataset
from ddn_etf.methods import Method
from ddn_etf.settings import TrainingSettings
from ddn_etf.training import EpochRecord, train

__all__ = [
    "QUANTITIES",
    "TARGET_ACCURACY",
    "Comparison",
    "Spread",
    "compare",
    "curve",
    "epochs_to_accuracy",
    "over_seeds",
    "spread",
    "summarize",
]

TARGET_ACCURACY = 99.0
"""The train accuracy, per cent, that ``epochs_to_target`` waits for."""

QUANTITIES = (
    "train_accuracy",
    "test_accuracy",
    "train_loss",
    "test_loss",
    "train_NC1",
    "train_NC2",
    "train_NC3",
    "test_NC1",
    "test_NC2",
    "test_NC3",
    "epochs_to_target",
)
"""What a summary holds: values at the last epoch, and the epochs needed to reach the target."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of all runs.

    Attributes:
        dataset: name of the data set.
        settings: what all runs share.
        methods: in the order asked for.
        seeds: in the order asked for.
        records: one per head, seed and epoch, in this order.
    """

    dataset: str
    settings: TrainingSettings
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    records: tuple[EpochRecord, ...]

    def run(self, head: str, seed: int) -> list[EpochRecord]:
        """The records of one run, by epoch."""
        return [r for r in self.records if r.head == head and r.seed == seed]


@dataclass(frozen=True)
class Spread:
    """Median and range over the seeds.

    Infinite where a run never reached what was waited for. Of an even number of runs the median is
    the mean of the middle two.
    """

    median: float
    low: float
    high: float


def compare(
    methods: Sequence[Method],
    seeds: Sequence[int],
    dataset: Dataset,
    settings: TrainingSettings | None = None,
    *,
    on_start: Callable[[str, int], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> Comparison:
    """Train every head with every seed, one run after the other.

    For one seed all heads start from the same backbone and see the same batches, so that they
    differ in the classifier alone. No run depends on those before it.

    Args:
        methods: which heads, from :data:`ddn_etf.methods.METHODS`.
        seeds: one run per head and seed.
        dataset: train and test split.
        settings: what all runs share.
        on_start: called with the name of the head and the seed before every run.
        on_epoch: called with what was measured, after every epoch of every run.

    Returns:
        The records of all runs, grouped by head and then by seed.
    """
    settings = settings or TrainingSettings()
    records: list[EpochRecord] = []
    for method in methods:
        for seed in seeds:
            if on_start is not None:
                on_start(method.name, seed)
            records += train(method, seed, dataset, settings, on_epoch=on_epoch).history
    return Comparison(dataset.name, settings, tuple(methods), tuple(seeds), tuple(records))


def epochs_to_accuracy(run: Sequence[EpochRecord], target: float = TARGET_ACCURACY) -> float:
    """The first epoch whose train accuracy is at least ``target``; infinite if there is none."""
    return next((r.epoch for r in run if r.values["train_accuracy"] >= target), math.inf)


def spread(values: Sequence[float]) -> Spread:
    """Median and range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def summarize(comparison: Comparison) -> dict[str, dict[str, Spread]]:
    """Median and range over the seeds of every quantity of :data:`QUANTITIES`, by head."""
    summary: dict[str, dict[str, Spread]] = {}
    for method in comparison.methods:
        runs = [comparison.run(method.name, seed) for seed in comparison.seeds]
        quantities = {"epochs_to_target": spread([epochs_to_accuracy(run) for run in runs])}
        for quantity in QUANTITIES:
            if quantity not in quantities:
                quantities[quantity] = spread([run[-1].values[quantity] for run in runs])
        summary[method.name] = {quantity: quantities[quantity] for quantity in QUANTITIES}
    return summary


def curve(comparison: Comparison, head: str, quantity: str) -> list[Spread]:
    """Median and range over the seeds of one measured quantity, epoch by epoch."""
    runs = [comparison.run(head, seed) for seed in comparison.seeds]
    return [
        spread([record.values[quantity] for record in records])
        for records in zip(*runs, strict=True)
    ]


def over_seeds(comparison: Comparison) -> str:
    """How a value came about, for titles: ``"median over 3 seeds"``."""
    count = len(comparison.seeds)
    return "one seed" if count == 1 else f"median over {count} seeds"
