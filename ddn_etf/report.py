"""What a comparison leaves behind: two CSV files, a figure and a page that needs no other file."""

from __future__ import annotations

import base64
import csv
import io
import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ddn_etf._extras import optional_import
from ddn_etf.compare import (
    TARGET_ACCURACY,
    Comparison,
    Spread,
    epochs_to_accuracy,
    over_seeds,
    summarize,
)
from ddn_etf.figures import comparison_figure, png
from ddn_etf.settings import TrainingSettings
from ddn_etf.training import EpochRecord

with optional_import("train", "The report of a comparison"):
    import jinja2

__all__ = [
    "COMMAND_LINE_SETTINGS",
    "REPORT_FILES",
    "command_line",
    "history_csv",
    "report_html",
    "run_table",
    "summary_csv",
    "summary_table",
    "table_title",
    "write_report",
]

REPORT_FILES = ("history.csv", "summary.csv", "figure.png", "report.html")
"""The names of the files that :func:`write_report` writes."""

COMMAND_LINE_SETTINGS = ("epochs", "batch_size", "learning_rate", "threads", "accelerator")
"""The fields of :class:`~ddn_etf.settings.TrainingSettings` with an option of the same name."""

_PACKAGES = ("ddn-torch", "torch", "lightning", "scikit-learn", "numpy", "scipy", "matplotlib")

_TABLE_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    # Quantity, its name in the table, and how to write a number.
    ("train_accuracy", "train accuracy (%)", lambda value: f"{value:.1f}"),
    ("test_accuracy", "test accuracy (%)", lambda value: f"{value:.1f}"),
    ("train_NC1", "NC1 (train)", lambda value: f"{value:.4f}"),
    ("train_NC2", "NC2", lambda value: f"{value:.4f}"),
    ("train_NC3", "NC3 (train)", lambda value: f"{value:.4f}"),
    (
        "epochs_to_target",
        f"epochs to {TARGET_ACCURACY:g} % train",
        lambda value: "never" if math.isinf(value) else f"{value:g}",
    ),
)


def write_report(comparison: Comparison, directory: Path) -> list[Path]:
    """Write the files of :data:`REPORT_FILES` into a folder that exists.

    Returns:
        Their paths, in the order of :data:`REPORT_FILES`.
    """
    picture = png(comparison_figure(comparison))
    contents = (
        history_csv(comparison.records).encode(),
        summary_csv(comparison).encode(),
        picture,
        report_html(comparison, picture).encode(),
    )
    paths = [directory / name for name in REPORT_FILES]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def history_csv(records: Iterable[EpochRecord]) -> str:
    """One row per head, seed, epoch, split and quantity; numbers are written without rounding."""
    rows = [
        (record.head, record.seed, record.epoch, *name.split("_", 1), repr(value))
        for record in records
        for name, value in record.values.items()
    ]
    return _csv(("head", "seed", "epoch", "split", "quantity", "value"), rows)


def summary_csv(comparison: Comparison) -> str:
    """One row per head and quantity; ``inf`` stands for a target that was not reached."""
    rows = [
        (head, quantity, repr(each.median), repr(each.low), repr(each.high), len(comparison.seeds))
        for head, quantities in summarize(comparison).items()
        for quantity, each in quantities.items()
    ]
    return _csv(("head", "quantity", "median", "minimum", "maximum", "seeds"), rows)


def table_title(comparison: Comparison) -> str:
    """What the table shows, in one line."""
    epochs = comparison.settings.epochs
    after = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    return f"{comparison.dataset} after {after}: {over_seeds(comparison)} [range]"


def summary_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The table that people read: a row per quantity, a column per head, as text.

    Returns:
        The header and the rows. A cell holds the median and, where the seeds differ, the range.
    """
    summary = summarize(comparison)
    header = ["", *(method.title for method in comparison.methods)]
    rows = []
    for quantity, title, write in _TABLE_ROWS:
        cells = [summary[method.name][quantity] for method in comparison.methods]
        rows.append([title, *(_cell(cell, write) for cell in cells)])
    return header, rows


def run_table(run: Sequence[EpochRecord]) -> tuple[list[str], list[list[str]]]:
    """The table of one run: a row per quantity, with its value after the last epoch, as text."""
    values = {**run[-1].values, "epochs_to_target": epochs_to_accuracy(run)}
    return ["", run[-1].head], [[title, write(values[name])] for name, title, write in _TABLE_ROWS]


def report_html(comparison: Comparison, picture: bytes) -> str:
    """A page with table, figure, settings and versions, which refers to no other file.

    Args:
        comparison: the outcome of all runs.
        picture: the figure as a PNG file; it is embedded.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddn_etf"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header, rows = summary_table(comparison)
    return environment.get_template("report.html.jinja").render(
        comparison=comparison,
        title=table_title(comparison),
        header=header,
        rows=rows,
        target=f"{TARGET_ACCURACY:g}",
        picture=base64.b64encode(picture).decode(),
        settings=asdict(comparison.settings),
        versions=_versions(),
        command=command_line(comparison),
    )


def command_line(comparison: Comparison) -> str | None:
    """The command that repeats a comparison; None if only Python code can, for want of options."""
    settings = comparison.settings
    options = {name: getattr(settings, name) for name in COMMAND_LINE_SETTINGS}
    if replace(TrainingSettings(), **options) != settings:
        return None
    if comparison.seeds != tuple(range(len(comparison.seeds))) or comparison.dataset != "digits":
        return None
    words = [
        "ddn-etf compare",
        "--heads " + ",".join(method.name for method in comparison.methods),
        f"--seeds {len(comparison.seeds)}",
        *(f"--{name.replace('_', '-')} {value}" for name, value in options.items()),
    ]
    return " ".join(words)


def _cell(spread: Spread, write: Callable[[float], str]) -> str:
    low, median, high = write(spread.low), write(spread.median), write(spread.high)
    return median if low == high else f"{median} [{low}–{high}]"


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
