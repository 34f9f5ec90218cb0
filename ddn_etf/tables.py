"""The tables of a comparison, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ddn_etf.compare import (
    TARGET_ACCURACIES,
    Comparison,
    Spread,
    epochs_to_accuracy,
    over_seeds,
    quantities,
    summarize,
)
from ddn_etf.history import EpochRecord, csv_text

__all__ = [
    "evaluation_table",
    "full_table",
    "run_table",
    "spread_cell",
    "steps_cell",
    "summary_csv",
    "summary_table",
    "table_title",
]

Table = tuple[list[str], list[list[str]]]


def steps_cell(value: float) -> str:
    """A number of epochs or iterations; infinite is ``never``."""
    return "never" if math.isinf(value) else f"{value:g}"


def spread_cell(median: float, low: float, high: float, write: Callable[[float], str]) -> str:
    """``median [low–high]``, or the median alone where both ends are written as it is."""
    return (
        write(median)
        if write(low) == write(high)
        else (f"{write(median)} [{write(low)}–{write(high)}]")
    )


_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    # Quantity, its name in the table, and how to write a number.
    ("train_accuracy", "train accuracy (%)", lambda value: f"{value:.1f}"),
    ("test_accuracy", "test accuracy (%)", lambda value: f"{value:.1f}"),
    ("train_NC1", "NC1 (train)", lambda value: f"{value:.4f}"),
    ("train_NC2", "NC2", lambda value: f"{value:.4f}"),
    ("train_NC3", "NC3 (train)", lambda value: f"{value:.4f}"),
    *(
        (f"epochs_to_{target:g}", f"epochs to {target:g} % train", steps_cell)
        for target in TARGET_ACCURACIES
    ),
)


def table_title(comparison: Comparison) -> str:
    """What the table shows, in one line."""
    epochs = comparison.settings.epochs
    after = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    return f"{comparison.dataset} after {after}: {over_seeds(comparison)} [range]"


def summary_table(comparison: Comparison) -> Table:
    """The table that people read: a row per quantity, a column per head, as text.

    Returns:
        The header and the rows. A cell holds the median and, where the seeds differ, the range.
    """
    summary = summarize(comparison)
    header = ["", *(method.title for method in comparison.methods)]
    rows = []
    for quantity, title, write in _ROWS:
        cells = [summary[method.name][quantity] for method in comparison.methods]
        rows.append([title, *(_cell(cell, write) for cell in cells)])
    return header, rows


def full_table(comparison: Comparison) -> Table:
    """Everything that was measured, with four significant digits: a row per quantity and split."""
    summary = summarize(comparison)
    header = ["", *(method.title for method in comparison.methods)]
    rows = []
    for quantity in quantities(comparison.records):
        write = steps_cell if quantity.startswith("epochs_to_") else "{:.4g}".format
        cells = [summary[method.name].get(quantity) for method in comparison.methods]
        rows.append([_title(quantity), *("" if c is None else _cell(c, write) for c in cells)])
    return header, rows


def run_table(run: Sequence[EpochRecord]) -> Table:
    """The table of one run: a row per quantity, with its value after the last epoch, as text."""
    values = run[-1].values | {
        f"epochs_to_{target:g}": epochs_to_accuracy(run, target) for target in TARGET_ACCURACIES
    }
    return ["", run[-1].head], [[title, write(values[name])] for name, title, write in _ROWS]


def evaluation_table(values: Mapping[str, Mapping[str, float]]) -> Table:
    """The table of an evaluation: a row per quantity, a column per split, as text."""
    names = dict.fromkeys(name for split in values.values() for name in split)
    rows = [
        [name.replace("_", " "), *(f"{split[name]:.6g}" for split in values.values())]
        for name in names
    ]
    return ["", *values], rows


def summary_csv(comparison: Comparison) -> str:
    """One row per head and quantity; ``inf`` stands for a target that was not reached."""
    rows = [
        (head, quantity, repr(each.median), repr(each.low), repr(each.high), len(comparison.seeds))
        for head, found in summarize(comparison).items()
        for quantity, each in found.items()
    ]
    return csv_text(("head", "quantity", "median", "minimum", "maximum", "seeds"), rows)


def _title(quantity: str) -> str:
    if quantity.startswith("epochs_to_"):
        return f"epochs to {quantity.removeprefix('epochs_to_')} % train"
    split, _, name = quantity.partition("_")
    return f"{name.replace('_', ' ')} ({split})"


def _cell(spread: Spread, write: Callable[[float], str]) -> str:
    return spread_cell(spread.median, spread.low, spread.high, write)
