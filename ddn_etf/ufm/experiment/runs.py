"""What came of the runs of an experiment: a row for each, and a summary for each head."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from ddn_etf.ufm.experiment.settings import ExperimentSettings
from ddn_etf.ufm.rows import rows_csv

__all__ = ["ExperimentResult", "Run", "Summary", "steps"]


@dataclass(frozen=True)
class Run:
    """One run to the gap; a row of the table.

    Attributes:
        head: name of the method.
        num_classes: K.
        samples_per_class: n.
        dim: d.
        seed: of the features and of what the head learns.
        tuning: whether the run chose the learning rates, or was made with them.
        feature_rate: learning rate of the features divided by N.
        weight_rate: learning rate of the head divided by K; None where nothing is learned.
        iterations: steps until the loss was within the gap, and stayed there for ``hold`` more; None if
            it was not in ``max_iterations`` steps, or was not finite.
        loss: at the end; NaN if features became infinite.
        seconds: of the whole run.
    """

    head: str
    num_classes: int
    samples_per_class: int
    dim: int
    seed: int
    tuning: bool
    feature_rate: float
    weight_rate: float | None
    iterations: int | None
    loss: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    """What the seeds of one head gave at its best learning rates.

    Attributes:
        head: name of the method.
        feature_rate: best learning rate of the features divided by N.
        weight_rate: likewise of the head divided by K; None where nothing is learned.
        median: iterations to the gap over the seeds; ∞ if half of them did not reach it.
        lowest: the fastest seed.
        highest: the slowest seed.
    """

    head: str
    feature_rate: float
    weight_rate: float | None
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class ExperimentResult:
    """All runs of one experiment.

    Attributes:
        settings: of all of them.
        runs: in the order they were made, those that chose the learning rates first for each head.
    """

    settings: ExperimentSettings
    runs: tuple[Run, ...]

    def summaries(self) -> tuple[Summary, ...]:
        """Medians and ranges over the seeds, one per head."""
        found = []
        for head in self.settings.heads:
            runs = [run for run in self.runs if run.head == head and not run.tuning]
            counts = [steps(run) for run in runs]
            first = runs[0]
            found.append(
                Summary(
                    head,
                    first.feature_rate,
                    first.weight_rate,
                    statistics.median(counts),
                    min(counts),
                    max(counts),
                )
            )
        return tuple(found)

    def write_csv(self, path: Path, *, append: bool = False) -> None:
        """One row per run, with the names of :class:`Run` as header."""
        text = rows_csv(Run, self.runs)
        if append:
            text = text.split("\n", 1)[1]
        with path.open("a" if append else "w", newline="", encoding="utf-8") as file:
            file.write(text)


def steps(run: Run) -> float:
    """The iterations of a run; infinite if it did not get there."""
    return math.inf if run.iterations is None else run.iterations
