"""What a comparison leaves behind: tables, figures and a page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddn_etf._extras import optional_import
from ddn_etf.compare import TARGET_ACCURACIES, Comparison, quantities
from ddn_etf.files import write_atomically
from ddn_etf.history import history_csv
from ddn_etf.report_figures import ReportFigure, report_figures
from ddn_etf.tables import full_table, summary_csv, summary_table, table_title
from ddn_etf.versions import versions

with optional_import("train", "The report of a comparison"):
    import jinja2

__all__ = ["REPORT_FILES", "Origin", "render_page", "report_html", "write_report"]

REPORT_FILES = ("history.csv", "summary.csv", "versions.json", "report.html")
"""The files that :func:`write_report` writes beside the folder ``figures``."""


@dataclass(frozen=True)
class Origin:
    """How a result came about, for the page.

    Attributes:
        command: that makes it again; empty where no single command does.
        configuration: the text of ``config.toml``; empty where there is none.
        versions: what it was made with, from :func:`ddn_etf.versions.versions`; by default those of
            this process.
    """

    command: str = ""
    configuration: str = ""
    versions: Mapping[str, str] | None = None


def write_report(
    comparison: Comparison,
    directory: str | Path,
    *,
    figures: Sequence[ReportFigure] | None = None,
    origin: Origin = Origin(),
    missing: str = "",
) -> list[Path]:
    """Write the files of :data:`REPORT_FILES` and the figures into a folder that exists.

    Args:
        comparison: the outcome of all runs.
        directory: the folder; files in it are replaced one by one, each at once.
        figures: of :func:`ddn_etf.report_figures.report_figures`; by default the one that needs no
            trained classifier.
        origin: how the result came about.
        missing: which figures are not there, and why.

    Returns:
        The paths of what was written, ``report.html`` last.

    Raises:
        WriteError: a full disk, for example; files written before stay.
    """
    directory = Path(directory)
    figures = report_figures(comparison) if figures is None else figures
    made_with = versions() if origin.versions is None else origin.versions
    contents: dict[str, str | bytes] = {
        "history.csv": history_csv(comparison.records),
        "summary.csv": summary_csv(comparison),
        "versions.json": json.dumps(dict(made_with), indent=2) + "\n",
        **{f"figures/{figure.name}": figure.content for figure in figures},
        "report.html": report_html(comparison, figures, origin=origin, missing=missing),
    }
    (directory / "figures").mkdir(exist_ok=True)
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return [directory / name for name in contents]


def report_html(
    comparison: Comparison,
    figures: Sequence[ReportFigure],
    *,
    origin: Origin = Origin(),
    missing: str = "",
) -> str:
    """A page with tables, figures, settings and versions, which refers to no other file.

    Args:
        comparison: the outcome of all runs.
        figures: embedded in this order, with their captions and text alternatives.
        origin: how the result came about.
        missing: which figures are not there, and why.
    """
    return render_page(
        "report.html.jinja",
        comparison=comparison,
        title=table_title(comparison),
        summary=summary_table(comparison),
        everything=full_table(comparison),
        hierarchical="test_mistake_severity" in quantities(comparison.records),
        targets=" % and ".join(f"{target:g}" for target in TARGET_ACCURACIES),
        figures=figures,
        missing=missing,
        settings=comparison.settings.as_table(),
        head_options=_head_options(comparison),
        # The name of a data set says what was changed in it.
        noisy="label noise" in comparison.dataset,
        origin=origin,
    )


def _head_options(comparison: Comparison) -> dict[str, str]:
    """By the titles of the heads, options that are not as by default."""
    return {
        method.title: ", ".join(
            f"{name.replace('_', ' ')} {getattr(method.options, name)}"
            for name in method.options.changed()
        )
        for method in comparison.methods
        if method.options.changed()
    }


def render_page(template: str, *, origin: Origin, **values: Any) -> str:
    """A page of a template of this package, with what all pages hold.

    Args:
        template: its name.
        origin: command, configuration and versions.
        **values: what the template itself needs; ``figures`` are
            :class:`~ddn_etf.report_figures.ReportFigure` objects.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddn_etf"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        command=origin.command,
        configuration=origin.configuration,
        versions=versions() if origin.versions is None else origin.versions,
        **values,
    )
