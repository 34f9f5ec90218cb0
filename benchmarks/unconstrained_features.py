"""Steps to the lower bound on unconstrained features: learned, fixed and nearest simplex ETF.

Run:  python -m benchmarks.unconstrained_features [--experiments ufm-10 ufm-100 ...] [--gap 0.01]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.timing import environment
from ddn_etf.ufm.experiment import (
    EXPERIMENTS,
    ExperimentResult,
    ExperimentSettings,
    Run,
    Summary,
    run_experiment,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--heads", nargs="+", help="names of methods; all three if not given")
    parser.add_argument("--gap", type=float, help="how near the lower bound; 0.01 if not given")
    parser.add_argument("--max-iterations", type=int, help="of one run")
    parser.add_argument("--output", type=Path, help="also write every row to this CSV file")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    options = parser.parse_args()
    results: list[ExperimentResult] = []
    print(environment())
    print("| K | n | d | head | rate / N | rate / K | median | range |")
    print("|---:|---:|---:|---|---:|---:|---:|---:|", flush=True)
    for number, name in enumerate(options.experiments):
        start = time.perf_counter()
        settings = changed(EXPERIMENTS[name], options)
        result = run_experiment(settings, on_run=show if options.verbose else None)
        if options.output:
            result.write_csv(options.output, append=number > 0)
        sizes = f"| {result.settings.num_classes} | {result.settings.samples_per_class} "
        for summary in result.summaries():
            print(f"{sizes}| {result.settings.dim} {row(summary)}")
        print(f"<!-- {time.perf_counter() - start:.0f} s -->", flush=True)
        results.append(result)
    print("\nOne seed at every rate of the features, at the best rate of a learned head:\n")
    print("| K | head | " + " | ".join(f"{rate:g}" for rate in rates(results)) + " |")
    print("|---:|---|" + "---:|" * len(rates(results)))
    for result in results:
        for head in result.settings.heads:
            cells = " | ".join(at_rate(result, head, rate) for rate in rates(results))
            print(f"| {result.settings.num_classes} | {head} | {cells} |")


def changed(settings: ExperimentSettings, options: argparse.Namespace) -> ExperimentSettings:
    """The settings with what was given on the command line."""
    given = {
        "heads": options.heads and tuple(options.heads),
        "gap": options.gap,
        "max_iterations": options.max_iterations,
    }
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def rates(results: list[ExperimentResult]) -> list[float]:
    return sorted({rate for result in results for rate in result.settings.feature_rates})


def at_rate(result: ExperimentResult, head: str, rate: float) -> str:
    """The fewest iterations of the runs that chose the learning rates, as text."""
    trials = [r for r in result.runs if r.tuning and (r.head, r.feature_rate) == (head, rate)]
    steps = [trial.iterations for trial in trials if trial.iterations is not None]
    limit = f"> {result.settings.max_iterations}" if trials else ""
    return str(min(steps)) if steps else limit


def show(run: Run) -> None:
    kind = "tuning" if run.tuning else "seed"
    print(
        f"<!-- {run.head} {kind} {run.seed}: rates {run.feature_rate:g}, {run.weight_rate}: "
        f"{run.iterations} steps, loss {run.loss:.4f}, {run.seconds:.1f} s -->",
        flush=True,
    )


def row(summary: Summary) -> str:
    weight = "" if summary.weight_rate is None else f"{summary.weight_rate:g}"
    return (
        f"| {summary.head} | {summary.feature_rate:g} | {weight} | {summary.median:g} "
        f"| {summary.lowest:g}–{summary.highest:g} |"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
