"""``ddn-etf ufm``: heads on unconstrained features, by the iterations they need."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ddn_etf.commands.configuration import CONFIG_NAME, command_line, config_toml, with_options
from ddn_etf.commands.shared import (
    errors_in_one_line,
    prepare_folder,
    say_written,
    text_table,
    wide_console,
    wrong_arguments,
)

if TYPE_CHECKING:
    from ddn_etf.report_figures import ReportFigure
    from ddn_etf.ufm.experiment import ExperimentResult, ExperimentSettings, Run

__all__ = ["UFM_FILES", "UfmOptions", "ufm_command"]

UFM_FILES = ("runs.csv", "summary.csv", "versions.json", "report.html")
"""The files beside ``config.toml`` and ``figures`` in the folder of the command."""


@dataclass(frozen=True, kw_only=True)
class UfmOptions:
    """One experiment; what is not given is as the experiment has it."""

    command: ClassVar[str] = "ufm"

    experiment: Annotated[str, typer.Option(help="ufm-10, ufm-100, ufm-200 or ufm-1000.")] = (
        "ufm-10"
    )
    heads: Annotated[str, typer.Option(help="Heads, separated by commas.")] = (
        "linear,fixed-etf,nearest-etf"
    )
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 5
    temperature: Annotated[float, typer.Option(help="Length of the features.")] = 5.0
    momentum: Annotated[float, typer.Option(help="Of gradient descent.")] = 0.9
    gap: Annotated[float, typer.Option(help="How near the lower bound the loss must come.")] = 1e-2
    max_iterations: Annotated[
        int | None, typer.Option(min=1, help="Iterations after which a run is given up.")
    ] = None
    double: Annotated[bool, typer.Option(help="Compute in float64.")] = False
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch.")] = 1

    def settings(self) -> ExperimentSettings:
        """The settings of the experiment.

        Raises:
            ValueError: an unknown experiment or head, or a number out of its range.
        """
        from ddn_etf.ufm.experiment import EXPERIMENTS

        if self.experiment not in EXPERIMENTS:
            raise ValueError(
                f"unknown experiment {self.experiment!r}; known experiments: "
                f"{', '.join(EXPERIMENTS)}"
            )
        settings = EXPERIMENTS[self.experiment]
        return replace(
            settings,
            heads=tuple(name.strip() for name in self.heads.split(",") if name.strip()),
            seeds=tuple(range(self.seeds)),
            temperature=self.temperature,
            momentum=self.momentum,
            gap=self.gap,
            max_iterations=self.max_iterations or settings.max_iterations,
            double=self.double,
        )


@with_options(UfmOptions)
def ufm_command(
    options: UfmOptions,
    output: Annotated[Path, typer.Option(help="Folder of the experiment.")] = Path("ddn-etf-ufm"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in the output folder.")
    ] = False,
) -> None:
    """Compare heads on unconstrained features, by the iterations to near the lower bound.

    Every head gets the learning rates of a grid that are best for it on a seed of its own. Prints a
    table and writes runs.csv, summary.csv, a figure and report.html.
    """
    with errors_in_one_line():
        with wrong_arguments():
            settings = options.settings()
        from ddn_etf._runtime import reproducible
        from ddn_etf.ufm.experiment import run_experiment

        prepare_folder(output, UFM_FILES, overwrite=overwrite)
        console = wide_console()

        def tell(run: Run) -> None:
            if not run.tuning:
                steps = "never" if run.iterations is None else f"{run.iterations} iterations"
                console.print(f"{run.head:<11} seed {run.seed}  {steps}  loss {run.loss:.4f}")

        with reproducible(0, options.threads):
            result = run_experiment(settings, on_run=tell)
        console.print(text_table(_title(options, settings), *_table(result)))
        say_written(console, _write(options, result, output))


def _title(options: UfmOptions, settings: ExperimentSettings) -> str:
    return (
        f"{options.experiment}: iterations to within {settings.gap:g} of the lower bound, median "
        "over seeds [range]"
    )


def _table(result: ExperimentResult) -> tuple[list[str], list[list[str]]]:
    from ddn_etf.tables import spread_cell, steps_cell

    header = ["head", "iterations", "rate of features / N", "rate of weight / K"]
    rows = []
    for each in result.summaries():
        cell = spread_cell(each.median, each.lowest, each.highest, steps_cell)
        weight_rate = "" if each.weight_rate is None else f"{each.weight_rate:g}"
        rows.append([each.head, cell, f"{each.feature_rate:g}", weight_rate])
    return header, rows


def _write(options: UfmOptions, result: ExperimentResult, output: Path) -> list[Path]:
    from ddn_etf.files import write_atomically
    from ddn_etf.history import csv_text
    from ddn_etf.report import Origin, render_page
    from ddn_etf.versions import versions

    made_with, figure = versions(), _figure(options, result)
    configuration = config_toml(options)
    origin = Origin(command_line(options), configuration, made_with)
    contents: dict[str, str | bytes] = {
        CONFIG_NAME: configuration,
        "summary.csv": csv_text(
            ("head", "median", "minimum", "maximum", "feature_rate", "weight_rate", "seeds"),
            [
                (
                    e.head,
                    e.median,
                    e.lowest,
                    e.highest,
                    e.feature_rate,
                    e.weight_rate,
                    options.seeds,
                )
                for e in result.summaries()
            ],
        ),
        "versions.json": json.dumps(made_with, indent=2) + "\n",
        f"figures/{figure.name}": figure.content,
        "report.html": render_page(
            "ufm.html.jinja",
            origin=origin,
            name=options.experiment,
            settings=result.settings,
            bound=f"{result.settings.lower_bound:.6g}",
            summary=_table(result),
            figures=[figure],
        ),
    }
    (output / "figures").mkdir(exist_ok=True)
    result.write_csv(output / "runs.csv")
    for name, content in contents.items():
        write_atomically(output / name, content)
    return [output / name for name in ("runs.csv", *contents)]


def _figure(options: UfmOptions, result: ExperimentResult) -> ReportFigure:
    from ddn_etf.figures import iterations_figure, png
    from ddn_etf.report_figures import ReportFigure

    counts = {
        head: [
            math.inf if run.iterations is None else run.iterations
            for run in result.runs
            if run.head == head and not run.tuning
        ]
        for head in result.settings.heads
    }
    words = "; ".join(
        f"{head}: " + ", ".join("never" if math.isinf(n) else str(n) for n in steps)
        for head, steps in counts.items()
    )
    return ReportFigure(
        "iterations.png",
        "Iterations",
        "One dot per seed, a line at the median; a cross is a run that did not get there.",
        f"Iterations by head and seed. {words}.",
        png(iterations_figure(counts, result.settings.max_iterations, title=options.experiment)),
    )
