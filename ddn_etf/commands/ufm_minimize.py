"""``ddn-etf ufm-minimize``: a solver on an unconstrained features model, against its closed form."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
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
from ddn_etf.commands.ufm_folders import (
    check_same_options,
    command_to_go_on,
    read_column,
    write_results,
)
from ddn_etf.commands.ufm_model_options import UfmMinimizeOptions

if TYPE_CHECKING:
    from rich.console import Console

    from ddn_etf.report_figures import ReportFigure
    from ddn_etf.ufm import ClosedForm, MinimizationRun

    Ended = tuple[MinimizationRun, Sequence[float]]

__all__ = ["UFM_MINIMIZE_FILES", "ufm_minimize_command"]

UFM_MINIMIZE_FILES = ("runs.csv", "versions.json", "report.html")
"""The files beside ``config.toml``, ``figures`` and ``histories`` in the folder of the command."""

Table = tuple[list[str], list[list[str]]]


@with_options(UfmMinimizeOptions)
def ufm_minimize_command(
    options: UfmMinimizeOptions,
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path(
        "ddn-etf-ufm-minimize"
    ),
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the finished seeds in the output folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in the output folder.")
    ] = False,
) -> None:
    """Minimise an unconstrained features model from random starts, and certify what is found.

    Prints a table: the value against the closed form, the certificate, NC metrics, iterations. Writes
    runs.csv, the value after every step of every seed, a figure and report.html.
    """
    with errors_in_one_line():
        if resume and overwrite:
            raise typer.BadParameter("--resume keeps what --overwrite would replace; give one")
        with wrong_arguments():
            options.check()
        prepare_folder(
            output,
            UFM_MINIMIZE_FILES,
            overwrite=overwrite or resume,
            instead="another --output, --resume to keep the finished seeds",
        )
        from ddn_etf.ufm import closed_form

        console = wide_console()
        runs = _run(options, output, _kept(options, output) if resume else {}, console)
        known = closed_form(options.model())
        console.print(
            text_table(_title(options), *_table([run for run, _ in runs.values()], known))
        )
        console.print(_reference(known), highlight=False)
        say_written(console, _write(options, runs, known, output))


def _run(
    options: UfmMinimizeOptions, output: Path, kept: Mapping[int, Ended], console: Console
) -> dict[int, Ended]:
    """The runs that are asked for, by seed; whenever one has ended, it is in runs.csv."""
    from ddn_etf._runtime import reproducible
    from ddn_etf.files import write_atomically
    from ddn_etf.ufm import minimize_once

    model, solver = options.model(), options.solver_object()
    runs: dict[int, Ended] = {}
    # What runs.csv holds: also kept seeds whose turn has not come, or that are not asked for.
    finished = {seed: run for seed, (run, _) in kept.items()}
    (output / "histories").mkdir(exist_ok=True)
    _save(output, options, finished)
    try:
        with reproducible(0, options.threads):
            for seed in range(options.seeds):
                if seed in kept:
                    runs[seed] = kept[seed]
                else:
                    runs[seed] = minimize_once(model, solver, seed, scale=options.scale)
                    text = _history_csv(runs[seed][1])
                    write_atomically(output / "histories" / f"seed-{seed}.csv", text)
                finished[seed] = runs[seed][0]
                _save(output, options, finished)
                note = "  (kept)" if seed in kept else ""
                console.print(f"seed {seed}  {_words(finished[seed])}{note}", highlight=False)
    except KeyboardInterrupt:
        raise interrupted(
            f"{len(finished)} finished seeds are kept in {output / 'runs.csv'}.",
            command_to_go_on(options.command, output, "--resume"),
        ) from None
    return runs


def _kept(options: UfmMinimizeOptions, output: Path) -> dict[int, Ended]:
    """The finished seeds of a folder with the same options."""
    from ddn_etf.ufm import MinimizationRun
    from ddn_etf.ufm.rows import read_rows

    if not (output / "runs.csv").exists():
        return {}
    check_same_options(options, output, may_differ=("seeds", "threads"))
    return {
        run.seed: (run, read_column(output / "histories" / f"seed-{run.seed}.csv", "value"))
        for run in read_rows(MinimizationRun, output / "runs.csv")
    }


def _save(output: Path, options: UfmMinimizeOptions, runs: Mapping[int, MinimizationRun]) -> None:
    from ddn_etf.files import write_atomically
    from ddn_etf.ufm import MinimizationRun
    from ddn_etf.ufm.rows import rows_csv

    write_atomically(output / CONFIG_NAME, config_toml(options))
    ordered = [runs[seed] for seed in sorted(runs)]
    write_atomically(output / "runs.csv", rows_csv(MinimizationRun, ordered))


def _history_csv(values: Sequence[float]) -> str:
    from ddn_etf.history import csv_text

    return csv_text(("step", "value"), ((step, repr(value)) for step, value in enumerate(values)))


def _words(run: MinimizationRun) -> str:
    if run.iterations is None:
        return "diverged; a smaller --learning-rate helps"
    excess = "" if run.excess is None else f" (closed form {run.excess:+.1e})"
    certified = {None: "", True: "  certified", False: "  not certified"}[run.is_global]
    stopped = "" if run.converged else "  not converged"
    return f"f {run.value:.10f}{excess}  {run.iterations} iterations{certified}{stopped}"


def _title(options: UfmMinimizeOptions) -> str:
    return f"{options.solver}, {options.seeds} seeds: median [range]"


def _reference(known: ClosedForm | None) -> str:
    if known is None:
        return "No closed form is known of this minimum."
    return f"Closed form: {float(known):.10f}, {known.standing.value}."


def _table(runs: Sequence[MinimizationRun], known: ClosedForm | None) -> Table:
    """A row per quantity, over the seeds that did not diverge."""
    from ddn_etf.tables import spread_cell

    done = [run for run in runs if run.iterations is not None]
    rows = []

    def add(title: str, values: Sequence[float | None], form: str) -> None:
        numbers = [value for value in values if value is not None and not math.isnan(value)]
        if numbers:
            middle = statistics.median(numbers)
            cell = spread_cell(middle, min(numbers), max(numbers), form.format)
            rows.append([title, cell])

    add("f", [run.value for run in done], "{:.10f}")
    if known is not None:
        add("f − closed form", [run.excess for run in done], "{:.1e}")
    add("norm of the gradient", [run.gradient_norm for run in done], "{:.1e}")
    add("iterations", [run.iterations for run in done], "{:g}")
    certified = [run.is_global for run in done if run.is_global is not None]
    if certified:
        add("‖∇g‖ / √(λ_Wλ_H) − 1", [run.spectral_excess for run in done], "{:.1e}")
        add("f − lower bound of the certificate", [run.gap for run in done], "{:.1e}")
        rows.append(["certified as global minima", f"{sum(certified)} of {len(runs)}"])
    for name in ("NC1", "NC2", "NC3", "NC4"):
        add(name, [getattr(run, name) for run in done], "{:.1e}")
    rows.append(["converged", f"{sum(run.converged for run in done)} of {len(runs)}"])
    if len(done) < len(runs):
        rows.append(["diverged", f"{len(runs) - len(done)} of {len(runs)}"])
    return ["", "seeds"], rows


def _write(
    options: UfmMinimizeOptions,
    runs: Mapping[int, Ended],
    known: ClosedForm | None,
    output: Path,
) -> list[Path]:
    from ddn_etf.report import Origin, render_page
    from ddn_etf.versions import versions

    histories = {seed: values for seed, (_, values) in runs.items()}
    made_with, figure = versions(), _figure(histories, known)
    origin = Origin(command_line(options), config_toml(options), made_with)
    contents: dict[str, str | bytes] = {
        "versions.json": json.dumps(made_with, indent=2) + "\n",
        f"figures/{figure.name}": figure.content,
        "report.html": render_page(
            "ufm_minimize.html.jinja",
            origin=origin,
            options=options,
            title=_title(options),
            reference=_reference(known),
            summary=_table([run for run, _ in runs.values()], known),
            figures=[figure],
        ),
    }
    write_results(output, contents)
    return [output / name for name in (CONFIG_NAME, "runs.csv", "histories", *contents)]


def _figure(histories: Mapping[int, Sequence[float]], known: ClosedForm | None) -> ReportFigure:
    from ddn_etf.figures import png
    from ddn_etf.report_figures import ReportFigure
    from ddn_etf.ufm.figures import descent_figure

    reference = None if known is None else float(known)
    ends = ", ".join(
        f"seed {seed}: {len(values) - 1} steps to {values[-1]:.6g}"
        if values
        else f"seed {seed}: none"
        for seed, values in histories.items()
    )
    return ReportFigure(
        "descent.png",
        "On the way down",
        "One line per random start; where a line ends, the solver stopped.",
        f"Values by step and seed. {ends}.",
        png(descent_figure(histories, reference)),
    )
