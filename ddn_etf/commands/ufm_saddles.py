"""``ddn-etf ufm-saddles``: critical points of an unconstrained features model, classified."""

from __future__ import annotations

import json
from collections import Counter
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
from ddn_etf.commands.ufm_folders import command_to_go_on, write_results
from ddn_etf.commands.ufm_model_options import UfmSaddlesOptions

if TYPE_CHECKING:
    from ddn_etf.report_figures import ReportFigure
    from ddn_etf.ufm import UnconstrainedFeatures
    from ddn_etf.ufm.landscape import CriticalPoint, StrictSaddleReport

__all__ = ["UFM_SADDLES_FILES", "ufm_saddles_command"]

UFM_SADDLES_FILES = ("points.csv", "groups.csv", "versions.json", "report.html")
"""The files beside ``config.toml`` and ``figures`` in the folder of the command."""

Table = tuple[list[str], list[list[str]]]


@with_options(UfmSaddlesOptions)
def ufm_saddles_command(
    options: UfmSaddlesOptions,
    output: Annotated[Path, typer.Option(help="Folder of the report.")] = Path(
        "ddn-etf-ufm-saddles"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in the output folder.")
    ] = False,
) -> None:
    """Find critical points by searches that do not descend, and tell minima from strict saddles.

    Prints a table of values, ranks and indices. Writes points.csv with the evidence for every point,
    groups.csv, a figure and report.html.
    """
    with errors_in_one_line():
        with wrong_arguments():
            model = options.one_layer()
        from ddn_etf._runtime import reproducible
        from ddn_etf.ufm.landscape import strict_saddle_report

        prepare_folder(output, UFM_SADDLES_FILES, overwrite=overwrite)
        console = wide_console()
        found: list[CriticalPoint] = []
        try:
            with reproducible(0, options.threads):
                report = strict_saddle_report(
                    model,
                    options.count,
                    seed=options.seed,
                    max_attempts=options.max_attempts,
                    on_point=found.append,
                )
        except KeyboardInterrupt:
            _save_points(options, found, output)
            raise interrupted(
                f"The {len(found)} points found so far are in {output / 'points.csv'}. Searches "
                "follow from one seed, so that they start anew.",
                command_to_go_on(options.command, output, "--overwrite"),
            ) from None
        console.print(text_table(_title(report), *_table(report)))
        for line in _findings(options, model, report):
            console.print(line, highlight=False)
        say_written(console, _write(options, model, report, output))


def _title(report: StrictSaddleReport) -> str:
    from ddn_etf.ufm.landscape import Kind

    counts = Counter(point.kind for point in report.points)
    kinds = ", ".join(f"{counts[kind]} {kind.value}" for kind in Kind)
    return f"{len(report.points)} critical points in {report.attempts} searches: {kinds}"


def _table(report: StrictSaddleReport) -> Table:
    from ddn_etf.ufm.landscape.groups import group_points

    header = ["f", "rank of W", "index", "smallest eigenvalue", "kind", "times", "found by"]
    rows = [
        [
            f"{group.value:.6f}",
            str(group.rank),
            "–" if group.index is None else str(group.index),
            f"{group.smallest_eigenvalue:.1e}",
            group.kind.value,
            str(group.count),
            ", ".join(sorted({source.split(", scale")[0] for source in group.sources})),
        ]
        for group in group_points(report.points)
    ]
    return header, rows


def _findings(
    options: UfmSaddlesOptions, model: UnconstrainedFeatures, report: StrictSaddleReport
) -> list[str]:
    """What the table means, in sentences."""
    from ddn_etf.ufm import Standing, closed_form
    from ddn_etf.ufm.landscape import Kind

    lines = []
    known = closed_form(model)
    minima = report.of_kind(Kind.GLOBAL_MINIMUM)
    if known is not None and known.standing is Standing.MINIMUM and minima:
        error = max(abs(point.value - float(known)) for point in minima)
        lines.append(f"Minima have the value of the closed form to {error:.0e}.")
    saddles = report.of_kind(Kind.STRICT_SADDLE)
    if saddles:
        least = min(point.certificate.excess for point in saddles)
        lines.append(f"At saddles ‖∇g‖ is at least {1 + least:.3f} times √(λ_Wλ_H).")
    if report.counterexamples:
        theory = (
            "theory makes no promise for dim < classes, so that local minima are possible"
            if model.dim < model.num_classes
            else "theory says there are none: look at them closely"
        )
        lines.append(f"{len(report.counterexamples)} are neither minima nor saddles; {theory}.")
    if len(report.points) < options.count:
        lines.append(
            f"{options.count} points were asked for; searches end where the gradient is not zero when "
            "they fail. A larger --max-attempts finds more."
        )
    return lines


def _save_points(options: UfmSaddlesOptions, points: list[CriticalPoint], output: Path) -> None:
    from ddn_etf.files import write_atomically
    from ddn_etf.ufm.landscape.groups import PointRow, point_row
    from ddn_etf.ufm.rows import rows_csv

    write_atomically(output / CONFIG_NAME, config_toml(options))
    write_atomically(output / "points.csv", rows_csv(PointRow, map(point_row, points)))


def _write(
    options: UfmSaddlesOptions,
    model: UnconstrainedFeatures,
    report: StrictSaddleReport,
    output: Path,
) -> list[Path]:
    from ddn_etf.history import csv_text
    from ddn_etf.report import Origin, render_page
    from ddn_etf.versions import versions

    made_with, figure = versions(), _figure(report)
    origin = Origin(command_line(options), config_toml(options), made_with)
    header, rows = _table(report)
    contents: dict[str, str | bytes] = {
        "groups.csv": csv_text(header, rows),
        "versions.json": json.dumps(made_with, indent=2) + "\n",
        f"figures/{figure.name}": figure.content,
        "report.html": render_page(
            "ufm_saddles.html.jinja",
            origin=origin,
            options=options,
            title=_title(report),
            summary=(header, rows),
            findings=_findings(options, model, report),
            figures=[figure],
        ),
    }
    _save_points(options, list(report.points), output)
    write_results(output, contents)
    return [output / name for name in (CONFIG_NAME, "points.csv", *contents)]


def _figure(report: StrictSaddleReport) -> ReportFigure:
    from ddn_etf.figures import png
    from ddn_etf.report_figures import ReportFigure
    from ddn_etf.ufm.figures import critical_points_figure

    return ReportFigure(
        "critical_points.png",
        "Critical points",
        "One mark per point: its value, and the smallest eigenvalue of the Hessian there, which is zero "
        "at a minimum and negative at a strict saddle.",
        f"{_title(report)}.",
        png(critical_points_figure(report.points)),
    )
