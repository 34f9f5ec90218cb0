"""Train several heads with several seeds, and summarise what came out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ddn_etf.checkpoints import CHECKPOINT_NAME, read_checkpoint
from ddn_etf.data import Dataset
from ddn_etf.history import EpochRecord
from ddn_etf.methods import Method, check_hierarchy
from ddn_etf.models import small_convnet
from ddn_etf.settings import TrainingSettings
from ddn_etf.training import train

__all__ = [
    "TARGET_ACCURACIES",
    "Comparison",
    "Spread",
    "compare",
    "curve",
    "epochs_to_accuracy",
    "over_seeds",
    "quantities",
    "run_folder",
    "spread",
    "summarize",
]

TARGET_ACCURACIES = (99.0, 100.0)
"""The train accuracies, per cent, that ``epochs_to_99`` and ``epochs_to_100`` wait for."""


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

    def runs(self, head: str) -> list[list[EpochRecord]]:
        """The runs of one head, by seed; seeds that it was not trained with are left out."""
        return [run for run in (self.run(head, seed) for seed in self.seeds) if run]


@dataclass(frozen=True)
class Spread:
    """Median and range over the seeds.

    Infinite where a run never reached what was waited for. Of an even number of runs the median is
    the mean of the middle two.

    Attributes:
        median: NaN if no run has a value.
        low: the smallest.
        high: the largest.
        missing: how many runs have no value and are left out, such as those without a mistake in
            the severity of mistakes.
    """

    median: float
    low: float
    high: float
    missing: int = 0


def compare(
    methods: Sequence[Method],
    seeds: Sequence[int],
    dataset: Dataset,
    settings: TrainingSettings | None = None,
    *,
    backbone: Callable[[int], nn.Module] = small_convnet,
    on_start: Callable[[str, int], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_kept: Callable[[EpochRecord], None] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
) -> Comparison:
    """Train every head with every seed, one run after the other.

    For one seed all heads start from the same backbone and see the same batches, so that they
    differ in the classifier alone. No run depends on those before it.

    Args:
        methods: which heads, from :data:`ddn_etf.methods.METHODS`.
        seeds: one run per head and seed.
        dataset: train and test split.
        settings: what all runs share.
        backbone: dim -> network from inputs to features (N, dim).
        on_start: called with the name of the head and the seed before every run that is trained.
        on_epoch: called with what was measured, after every epoch of every run.
        on_kept: called with what was measured last of every run that was already finished.
        folder: where every run has a folder of its own, :func:`run_folder`, with its checkpoint.
        resume: keep the runs that are finished there, go on with the one that was interrupted, and
            train those that are missing.
        overwrite: replace the runs that are there.
        tensorboard: also write logs for TensorBoard into the folders of the runs.

    Returns:
        The records of all runs, grouped by head and then by seed.

    Raises:
        ResumeError: ``resume`` with a run in the folder that had other settings or data, or without
            folder.
        FileExistsError: one of the runs is in the folder, and neither ``resume`` nor ``overwrite``
            says what is to become of it; nothing has been trained.
        ValueError: a head needs a hierarchy of the classes and the data set has none.
    """
    settings = settings or TrainingSettings()
    folder = None if folder is None else Path(folder)
    check_hierarchy(methods, dataset.name, has_hierarchy=dataset.hierarchy is not None)
    if folder is not None and not resume and not overwrite:
        _check_free(folder, methods, seeds)
    records: list[EpochRecord] = []
    for method in methods:
        for seed in seeds:
            place = None if folder is None else run_folder(folder, method.name, seed)
            checkpoint = None if place is None else place / CHECKPOINT_NAME
            started = resume and checkpoint is not None and checkpoint.is_file()
            kept = (
                started
                and checkpoint is not None
                and len(read_checkpoint(checkpoint)["history"]) == settings.epochs
            )
            if on_start is not None and not kept:
                on_start(method.name, seed)
            history = train(
                method,
                seed,
                dataset,
                settings,
                backbone=backbone,
                on_epoch=on_epoch,
                checkpoint_dir=place,
                resume=started or (resume and folder is None),
                overwrite=overwrite,
                tensorboard=tensorboard,
            ).history
            if on_kept is not None and kept:
                on_kept(history[-1])
            records += history
    return Comparison(dataset.name, settings, tuple(methods), tuple(seeds), tuple(records))


def _check_free(folder: Path, methods: Sequence[Method], seeds: Sequence[int]) -> None:
    for method in methods:
        for seed in seeds:
            path = run_folder(folder, method.name, seed) / CHECKPOINT_NAME
            if path.is_file():
                raise FileExistsError(
                    f"{path} is the checkpoint of a run; give resume=True to keep the runs that are "
                    "finished, overwrite=True to replace them, or another folder"
                )


def run_folder(folder: str | Path, head: str, seed: int) -> Path:
    """Where a comparison keeps one of its runs: ``runs/HEAD-seed-N``."""
    return Path(folder) / "runs" / f"{head}-seed-{seed}"


def epochs_to_accuracy(run: Sequence[EpochRecord], target: float = TARGET_ACCURACIES[0]) -> float:
    """The first epoch whose train accuracy is at least ``target``; infinite if there is none."""
    return next((r.epoch for r in run if r.values["train_accuracy"] >= target), math.inf)


def spread(values: Sequence[float]) -> Spread:
    """Median and range of at least one value; NaN is no value, and is counted."""
    found = [value for value in values if not math.isnan(value)]
    missing = len(values) - len(found)
    if not found:
        return Spread(math.nan, math.nan, math.nan, missing)
    return Spread(statistics.median(found), min(found), max(found), missing)


def quantities(records: Iterable[EpochRecord]) -> tuple[str, ...]:
    """What a summary of these records holds: all that was measured, and the epochs to the targets."""
    measured = dict.fromkeys(name for record in records for name in record.values)
    return (*measured, *(f"epochs_to_{target:g}" for target in TARGET_ACCURACIES))


def summarize(comparison: Comparison) -> dict[str, dict[str, Spread]]:
    """Median and range over the seeds of everything measured, by head.

    Values are those of the last epoch of each run; ``epochs_to_99`` and ``epochs_to_100`` are the
    first epochs with that train accuracy, infinite where there is none. What some of the runs do not
    have, for example because they made no mistake, is over the others (:attr:`Spread.missing`).
    """
    names = quantities(comparison.records)
    summary: dict[str, dict[str, Spread]] = {}
    for method in comparison.methods:
        runs = comparison.runs(method.name)
        ends = [
            run[-1].values
            | {f"epochs_to_{t:g}": epochs_to_accuracy(run, t) for t in TARGET_ACCURACIES}
            for run in runs
        ]
        summary[method.name] = {
            name: spread([end.get(name, math.nan) for end in ends])
            for name in names
            if any(name in end for end in ends)
        }
    return summary


def curve(comparison: Comparison, head: str, quantity: str) -> list[Spread]:
    """Median and range over the seeds of one measured quantity, epoch by epoch."""
    return [
        spread([record.values[quantity] for record in records])
        for records in zip(*comparison.runs(head), strict=True)
    ]


def over_seeds(comparison: Comparison) -> str:
    """How a value came about, for titles: ``"median over 3 seeds"``, or ``"2-3 seeds"`` over heads."""
    counts = [len(comparison.runs(method.name)) for method in comparison.methods]
    fewest, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    return f"median over {most if fewest == most else f'{fewest}–{most}'} seeds"
