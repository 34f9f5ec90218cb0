"""How many steps does each head need on unconstrained features of fixed length?

The features F (N, d) are the only variables beside what a head learns itself; it sees h = τ f/‖f‖.
All samples are one batch. Gradient descent with momentum runs until the cross entropy is within a
given gap of its lower bound log(1 + (K-1) e^{-τK/(K-1)}), and the number of its steps is what counts.
Every head gets the learning rate of a common grid that is best for it on seeds of their own.

After the synthetic experiments UFM-10, -100, -200 and -1000 of Markou, Ajanthan and Gould, "Guiding
Neural Collapse: Optimising Towards the Nearest Simplex Equiangular Tight Frame" (2024), section 4.
"""

from __future__ import annotations

import csv
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ddn_etf.errors import FeatureError
from ddn_etf.heads import Head
from ddn_etf.methods import Method, find_methods
from ddn_etf.ufm.normalized import normalized_lower_bound
from ddn_etf.validation import check_count, check_frame_size

__all__ = [
    "EXPERIMENTS",
    "ExperimentResult",
    "ExperimentSettings",
    "Run",
    "Summary",
    "converge",
    "run_experiment",
]


@dataclass(frozen=True)
class ExperimentSettings:
    """One size, and what is done with it.

    The gradient of a mean loss is 1/N for a feature and about 1/K for a row of the weight, so the
    learning rates are those numbers times N and times K: then one grid fits all sizes.

    Attributes:
        num_classes: K.
        samples_per_class: n.
        dim: d >= K - 1.
        heads: names of methods (:data:`ddn_etf.methods.METHODS`) that need no hierarchy.
        temperature: τ, the length of the features.
        momentum: of gradient descent, in [0, 1).
        feature_rates: learning rates of the features divided by N.
        weight_rates: learning rates of the head divided by K, for heads that learn.
        gap: how near the lower bound the loss must come.
        max_iterations: steps after which a run is given up.
        seeds: of the runs that are reported.
        tuning_seeds: of the runs that choose the learning rates.
        double: compute in float64 instead of float32.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a number is out of its range, or a list is empty.
    """

    num_classes: int = 10
    samples_per_class: int = 20
    dim: int = 64
    heads: tuple[str, ...] = ("linear", "fixed-etf", "nearest-etf")
    temperature: float = 5.0
    momentum: float = 0.9
    feature_rates: tuple[float, ...] = (0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)
    weight_rates: tuple[float, ...] = (0.25, 0.5, 1, 2, 4)
    gap: float = 1e-2
    max_iterations: int = 200
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tuning_seeds: tuple[int, ...] = (100,)
    double: bool = False

    def __post_init__(self) -> None:
        check_frame_size(self.num_classes, self.dim)
        check_count("samples_per_class", self.samples_per_class, 1)
        check_count("max_iterations", self.max_iterations, 1)
        for method in find_methods(self.heads):
            if method.needs_hierarchy:
                raise ValueError(
                    f"head {method.name!r} follows a hierarchy of the classes, and the classes of "
                    "unconstrained features have none; train it with ddn-etf compare on a data set "
                    "that has one"
                )
        for name in ("temperature", "gap"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, found {value}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), found {self.momentum}")
        for name in ("feature_rates", "weight_rates"):
            values = getattr(self, name)
            if not values or not all(0 < value < math.inf for value in values):
                raise ValueError(f"{name} must be one or more positive numbers, found {values}")
        for name in ("seeds", "tuning_seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold at least one seed")

    @property
    def lower_bound(self) -> float:
        """log(1 + (K-1) e^{-τK/(K-1)})."""
        return normalized_lower_bound(self.num_classes, self.temperature)


EXPERIMENTS: dict[str, ExperimentSettings] = {
    "ufm-10": ExperimentSettings(),
    "ufm-100": ExperimentSettings(num_classes=100, samples_per_class=10, dim=128),
    "ufm-200": ExperimentSettings(num_classes=200, samples_per_class=5, dim=256),
    # A step takes some tenths of a second; the grid is a coarser one.
    "ufm-1000": ExperimentSettings(
        num_classes=1000,
        samples_per_class=2,
        dim=1024,
        feature_rates=(0.5, 2, 8, 16, 32, 64, 128, 256),
        weight_rates=(0.25, 1, 4),
        max_iterations=100,
    ),
}
"""The sizes of the paper; n and d are ours."""


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
        iterations: steps until the loss was within the gap; None if it was not in ``max_iterations``
            steps, or was not finite.
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
            steps = [_steps(run) for run in runs]
            first = runs[0]
            found.append(
                Summary(
                    head,
                    first.feature_rate,
                    first.weight_rate,
                    statistics.median(steps),
                    min(steps),
                    max(steps),
                )
            )
        return tuple(found)

    def write_csv(self, path: Path, *, append: bool = False) -> None:
        """One row per run, with the names of :class:`Run` as header."""
        with path.open("a" if append else "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Run)])
            if not append:
                writer.writeheader()
            writer.writerows(asdict(run) for run in self.runs)


def converge(
    method: Method,
    settings: ExperimentSettings,
    feature_rate: float,
    weight_rate: float | None,
    seed: int,
    *,
    tuning: bool = False,
) -> Run:
    """One run: gradient descent with momentum until the loss is within the gap of its lower bound.

    Features start at independent N(0, 1) entries.

    Args:
        method: which head.
        settings: sizes and numbers.
        feature_rate: learning rate of the features divided by N.
        weight_rate: likewise of the head divided by K; None for a head that learns nothing.
        seed: of all random numbers; the global state of torch is left as it is.
        tuning: kept in the result.

    Raises:
        ValueError: a head that learns, without ``weight_rate``.
    """
    start = time.perf_counter()
    K, n, d = settings.num_classes, settings.samples_per_class, settings.dim
    features, head, labels = _start(method, settings, seed)
    groups = [{"params": [features], "lr": feature_rate * K * n}]
    learned = list(head.parameters())
    if learned:
        if weight_rate is None:
            raise ValueError(f"head {method.name!r} learns a weight: it needs a weight_rate")
        groups.append({"params": learned, "lr": weight_rate * K})
    optimizer = torch.optim.SGD(groups, momentum=settings.momentum)
    target = settings.lower_bound + settings.gap
    iterations, value = None, math.nan
    for step in range(settings.max_iterations + 1):
        try:
            loss = cross_entropy(head(features, labels), labels)
        except FeatureError:  # The last step has made a feature infinite.
            value = math.nan
            break
        value = loss.item()
        if value <= target:
            iterations = step
        if value <= target or not math.isfinite(value):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    return Run(
        method.name,
        K,
        n,
        d,
        seed,
        tuning,
        feature_rate,
        weight_rate if learned else None,
        iterations,
        value,
        seconds,
    )


def run_experiment(
    settings: ExperimentSettings, *, on_run: Callable[[Run], None] | None = None
) -> ExperimentResult:
    """Choose the learning rates of each head on the tuning seeds, then run all seeds with them.

    The best rates are those with the fewest iterations in the median, of equal ones those with the
    lower loss at the end.

    Args:
        settings: sizes and numbers.
        on_run: called after every run.
    """
    runs: list[Run] = []

    def record(run: Run) -> Run:
        runs.append(run)
        if on_run is not None:
            on_run(run)
        return run

    for method in find_methods(settings.heads):
        learns = any(True for _ in _start(method, settings, 0)[1].parameters())
        weight_rates: tuple[float | None, ...] = settings.weight_rates if learns else (None,)
        scores = {}
        for rates in ((f, w) for f in settings.feature_rates for w in weight_rates):
            trials = [
                record(converge(method, settings, *rates, seed, tuning=True))
                for seed in settings.tuning_seeds
            ]
            scores[rates] = (
                statistics.median(map(_steps, trials)),
                # NaN compares with nothing; a run that diverged is the worst.
                statistics.median(
                    math.inf if math.isnan(trial.loss) else trial.loss for trial in trials
                ),
            )
        best = min(scores, key=lambda rates: scores[rates])
        for seed in settings.seeds:
            record(converge(method, settings, *best, seed))
    return ExperimentResult(settings, tuple(runs))


def _start(
    method: Method, settings: ExperimentSettings, seed: int
) -> tuple[nn.Parameter, Head, Tensor]:
    """Features, head and labels, as the seed says."""
    dtype = torch.float64 if settings.double else torch.float32
    K, n = settings.num_classes, settings.samples_per_class
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(K * n, settings.dim, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = method.build(settings.dim, K, settings.temperature).to(dtype).train()
    labels = torch.arange(K).repeat_interleave(n)
    return nn.Parameter(gaussian.to(dtype)), head, labels


def _steps(run: Run) -> float:
    return math.inf if run.iterations is None else run.iterations
