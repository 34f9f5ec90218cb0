"""One run to the lower bound, and all runs of an experiment with the best learning rates."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch.nn.functional import cross_entropy

from ddn.errors import DeclarativeNodeError
from ddn_etf.errors import FeatureError
from ddn_etf.methods import Method, find_methods
from ddn_etf.ufm.experiment.runs import ExperimentResult, Run, steps
from ddn_etf.ufm.experiment.settings import ExperimentSettings
from ddn_etf.ufm.experiment.stability import largest_stable_rate
from ddn_etf.ufm.experiment.start import starting_point

__all__ = ["NoStableRateError", "converge", "run_experiment"]


class NoStableRateError(DeclarativeNodeError, ValueError):
    """Gradient descent is stable at no rate of a grid."""


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

    With ``settings.hold`` = 0 the first step at which it is within the gap counts. Otherwise the run
    goes on, and what counts is the first step from which the loss stays there for so many further
    steps: momentum carries many runs out of the gap again, for thirty or forty steps.

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
    features, head, labels = starting_point(method, settings, seed)
    groups = [{"params": [features], "lr": feature_rate * K * n}]
    learned = list(head.parameters())
    if learned:
        if weight_rate is None:
            raise ValueError(f"head {method.name!r} learns a weight: it needs a weight_rate")
        groups.append({"params": learned, "lr": weight_rate * K})
    optimizer = torch.optim.SGD(groups, momentum=settings.momentum)
    target = settings.lower_bound + settings.gap
    iterations, arrived, value = None, None, math.nan
    for step in range(settings.max_iterations + settings.hold + 1):
        try:
            loss = cross_entropy(head(features, labels), labels)
        except FeatureError:  # The last step has made a feature infinite.
            value = math.nan
            break
        value = loss.item()
        if value > target:
            arrived = None
        elif arrived is None:
            arrived = step
        if arrived is not None and step - arrived >= settings.hold:
            iterations = arrived
            break
        out_of_time = arrived is None and step >= settings.max_iterations
        if out_of_time or not math.isfinite(value):
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
    settings: ExperimentSettings,
    *,
    on_run: Callable[[Run], None] | None = None,
    finished: Iterable[Run] = (),
) -> ExperimentResult:
    """Choose the learning rates of each head on the tuning seeds, then run all seeds with them.

    The best rates are those with the fewest iterations in the median, of equal ones those with the
    lower loss at the end. With ``settings.stable_rates_only`` rates of the features above
    :func:`largest_stable_rate` are left out for that head.

    Args:
        settings: sizes and numbers.
        on_run: called after every run that is made.
        finished: runs with these settings that were made before, in any order, such as those of an
            experiment that was interrupted. They are taken as they are and not made again.

    Raises:
        NoStableRateError: no rate of the grid is stable for a head.
    """
    runs: list[Run] = []
    known = {_key(run): run for run in finished}

    def run_once(
        method: Method,
        feature_rate: float,
        weight_rate: float | None,
        seed: int,
        *,
        tuning: bool = False,
    ) -> Run:
        sizes = (settings.num_classes, settings.samples_per_class, settings.dim)
        run = known.get((method.name, *sizes, seed, tuning, feature_rate, weight_rate))
        if run is None:
            run = converge(method, settings, feature_rate, weight_rate, seed, tuning=tuning)
            if on_run is not None:
                on_run(run)
        runs.append(run)
        return run

    for method in find_methods(settings.heads):
        learns = any(True for _ in starting_point(method, settings, 0)[1].parameters())
        weight_rates: tuple[float | None, ...] = settings.weight_rates if learns else (None,)
        scores = {}
        for rates in ((f, w) for f in _feature_rates(method, settings) for w in weight_rates):
            trials = [run_once(method, *rates, seed, tuning=True) for seed in settings.tuning_seeds]
            scores[rates] = (
                statistics.median(map(steps, trials)),
                # NaN compares with nothing; a run that diverged is the worst.
                statistics.median(
                    math.inf if math.isnan(trial.loss) else trial.loss for trial in trials
                ),
            )
        best = min(scores, key=lambda rates: scores[rates])
        for seed in settings.seeds:
            run_once(method, *best, seed)
    return ExperimentResult(settings, tuple(runs))


def _feature_rates(method: Method, settings: ExperimentSettings) -> tuple[float, ...]:
    if not settings.stable_rates_only:
        return settings.feature_rates
    limit = min(largest_stable_rate(method, settings, seed) for seed in settings.tuning_seeds)
    rates = tuple(rate for rate in settings.feature_rates if rate <= limit)
    if not rates:
        raise NoStableRateError(
            f"no rate of the features is stable for head {method.name!r}: the limit is {limit:.3g} and "
            f"the smallest rate {min(settings.feature_rates):g}; give smaller feature_rates"
        )
    return rates


def _key(run: Run) -> tuple[object, ...]:
    sizes = (run.num_classes, run.samples_per_class, run.dim)
    return (run.head, *sizes, run.seed, run.tuning, run.feature_rate, run.weight_rate)
