"""``ddn-etf ufm``: heads on unconstrained features, by the iterations they need."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddn_etf.commands.configuration import CONFIG_NAME, command_line, config_toml, with_options
from ddn_etf.commands.shared import (
    errors_in_one_line,
    interrupted,
    prepare_folder,
    say_written,
    text_table,
    wide_console,
    wrong_arguments,
)
from ddn_etf.commands.ufm_folders import check_same_options, command_to_go_on, write_results
from ddn_etf.commands.ufm_options import UfmOptions

if TYPE_CHECKING:
    from rich.console import Console

    from ddn_etf.report_figures import ReportFigure
    from ddn_etf.ufm.experiment import ExperimentResult, ExperimentSettings, Run

__all__ = ["UFM_FILES", "UfmOptions", "ufm_command"]

UFM_FILES = ("runs.csv", "summary.csv", "versions.json", "report.html")
"""The files beside ``config.toml`` and ``figures`` in the folder of the command."""


@with_options(UfmOptions)
def ufm_command(
    options: UfmOptions,
    output: Annotated[Path, typer.Option(help="Folder of the experiment.")] = Path("ddn-etf-ufm"),
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep the finished runs in the output folder, do the rest."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in the output folder.")
    ] = False,
) -> None:
    """Compare heads on unconstrained features, by the iterations to near the lower bound.

    Every head gets the learning rates of a grid that are best for it on a seed of its own. Prints a
    table and writes runs.csv, summary.csv, a figure and report.html. Global minima and saddles of the
    models with weight decay: ufm-minimize and ufm-saddles.
    """
    with errors_in_one_line():
        if resume and overwrite:
            raise typer.BadParameter("--resume keeps what --overwrite would replace; give one")
        with wrong_arguments():
            settings = options.settings()
        prepare_folder(
            output,
            UFM_FILES,
            overwrite=overwrite or resume,
            instead="another --output, --resume to keep the runs that are finished",
        )
        kept = _kept(options, output) if resume else []
        console = wide_console()
        if kept:
            console.print(f"kept {len(kept)} finished runs of {output / 'runs.csv'}")
        result = _run(options, settings, output, kept, console)
        console.print(text_table(_title(settings), *_table(result)))
        say_written(console, _write(options, result, kept, output))


def _kept(options: UfmOptions, output: Path) -> list[Run]:
    """The finished runs of a folder with the same options, of whatever heads and seeds."""
    from ddn_etf.ufm.experiment import Run
    from ddn_etf.ufm.rows import read_rows

    path = output / "runs.csv"
    if not path.exists():
        return []
    check_same_options(options, output, may_differ=("heads", "seeds", "threads"))
    return read_rows(Run, path)


def _run(
    options: UfmOptions,
    settings: ExperimentSettings,
    output: Path,
    kept: list[Run],
    console: Console,
) -> ExperimentResult:
    """All runs; whenever one has ended, it is in runs.csv."""
    from ddn_etf._runtime import reproducible
    from ddn_etf.files import write_atomically
    from ddn_etf.ufm.experiment import Run, run_experiment
    from ddn_etf.ufm.rows import rows_csv

    finished = list(kept)

    def save() -> None:
        write_atomically(output / "runs.csv", rows_csv(Run, finished))

    def tell(run: Run) -> None:
        finished.append(run)
        save()
        if not run.tuning:
            steps = "never" if run.iterations is None else f"{run.iterations} iterations"
            console.print(f"{run.head:<11} seed {run.seed}  {steps}  loss {run.loss:.4f}")

    write_atomically(output / CONFIG_NAME, config_toml(options))
    save()
    try:
        with reproducible(0, options.threads):
            return run_experiment(settings, on_run=tell, finished=kept)
    except KeyboardInterrupt:
        raise interrupted(
            f"{len(finished)} finished runs are kept in {output / 'runs.csv'}.",
            command_to_go_on(options.command, output, "--resume"),
        ) from None


def _title(settings: ExperimentSettings) -> str:
    stay = f" and to stay there for {settings.hold} more" if settings.hold else ""
    return (
        f"K = {settings.num_classes}, n = {settings.samples_per_class}, d = {settings.dim}: iterations "
        f"to within {settings.gap:g} of the lower bound{stay}, median over seeds [range]"
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


def _write(
    options: UfmOptions, result: ExperimentResult, kept: list[Run], output: Path
) -> list[Path]:
    from ddn_etf.history import csv_text
    from ddn_etf.report import Origin, render_page
    from ddn_etf.ufm.experiment import Run
    from ddn_etf.ufm.rows import rows_csv
    from ddn_etf.versions import versions

    made_with, figure = versions(), _figure(result)
    configuration = config_toml(options)
    origin = Origin(command_line(options), configuration, made_with)
    contents: dict[str, str | bytes] = {
        CONFIG_NAME: configuration,
        # Runs that were kept and not asked for, of other heads or more seeds, stay behind the others.
        "runs.csv": rows_csv(Run, [*result.runs, *(run for run in kept if run not in result.runs)]),
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
            title=_title(result.settings),
            settings=result.settings,
            bound=f"{result.settings.lower_bound:.6g}",
            summary=_table(result),
            figures=[figure],
        ),
    }
    write_results(output, contents)
    return [output / name for name in contents]


def _figure(result: ExperimentResult) -> ReportFigure:
    from ddn_etf.figures import iterations_figure, png
    from ddn_etf.report_figures import ReportFigure

    settings = result.settings
    counts = {
        head: [
            math.inf if run.iterations is None else run.iterations
            for run in result.runs
            if run.head == head and not run.tuning
        ]
        for head in settings.heads
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
        png(
            iterations_figure(
                counts, result.settings.max_iterations, title=f"K = {result.settings.num_classes}"
            )
        ),
    )
