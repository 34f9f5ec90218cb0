"""The tables of a comparison, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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

_NOTHING = "–"
"""What a cell holds that has no value: the severity of no mistakes, for example."""


def steps_cell(value: float) -> str:
    """A number of epochs or iterations; infinite is ``never``."""
    return "never" if math.isinf(value) else f"{value:g}"


def spread_cell(median: float, low: float, high: float, write: Callable[[float], str]) -> str:
    """``median [low–high]``, or the median alone where both ends are written as it is; ``–`` for NaN."""
    if math.isnan(median):
        return _NOTHING
    return (
        write(median)
        if write(low) == write(high)
        else (f"{write(median)} [{write(low)}–{write(high)}]")
    )


def _metric(value: float) -> str:
    """Four decimals; a number that is too large for them in scientific notation."""
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"


_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    # Quantity, its name in the table, and how to write a number.
    ("train_accuracy", "train accuracy (%)", lambda value: f"{value:.1f}"),
    ("test_accuracy", "test accuracy (%)", lambda value: f"{value:.1f}"),
    ("test_mistake_severity", "mistake severity (test)", lambda value: f"{value:.3f}"),
    ("test_hd@5", "hd@5 (test)", lambda value: f"{value:.3f}"),
    ("test_hp@5", "hp@5 (test)", lambda value: f"{value:.3f}"),
    ("train_NC1", "NC1 (train)", _metric),
    ("train_NC2", "NC2", _metric),
    ("train_NC3", "NC3 (train)", _metric),
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
        The header, which says how many seeds a head has if others have more, and the rows; those
        about mistakes in a hierarchy only if it was measured. A cell holds the median and, where the
        seeds differ, the range. Seeds without a value, such as those without a mistake, are left out
        and the cell says how many are not; it is "–" if none is.
    """
    header, rows = _header(comparison), []
    cells = _cells(comparison)
    for quantity, title, write in _ROWS:
        if quantity in cells:
            rows.append([title, *(cell(write) for cell in cells[quantity])])
    return header, rows


def full_table(comparison: Comparison) -> Table:
    """Everything that was measured, with four significant digits: a row per quantity and split."""
    header, rows = _header(comparison), []
    for quantity, cells in _cells(comparison).items():
        write = steps_cell if quantity.startswith("epochs_to_") else "{:.4g}".format
        rows.append([_title(quantity), *(cell(write) for cell in cells)])
    return header, rows


def run_table(run: Sequence[EpochRecord]) -> Table:
    """The table of one run: a row per quantity, with its value after the last epoch, as text."""
    values = run[-1].values | {
        f"epochs_to_{target:g}": epochs_to_accuracy(run, target) for target in TARGET_ACCURACIES
    }
    rows = [
        [title, _NOTHING if math.isnan(values[name]) else write(values[name])]
        for name, title, write in _ROWS
        if name in values
    ]
    return ["", run[-1].head], rows


def evaluation_table(values: Mapping[str, Mapping[str, float]]) -> Table:
    """The table of an evaluation: a row per quantity, a column per split, as text."""
    names = dict.fromkeys(name for split in values.values() for name in split)
    rows = [
        [
            name.replace("_", " "),
            *(
                _NOTHING if math.isnan(split[name]) else f"{split[name]:.6g}"
                for split in values.values()
            ),
        ]
        for name in names
    ]
    return ["", *values], rows


def summary_csv(comparison: Comparison) -> str:
    """One row per head and quantity, with the number of seeds that have a value.

    ``inf`` stands for a target that was not reached, ``nan`` for a quantity that no seed has.
    """
    rows = [
        (
            head,
            quantity,
            repr(each.median),
            repr(each.low),
            repr(each.high),
            len(comparison.runs(head)) - each.missing,
        )
        for head, found in summarize(comparison).items()
        for quantity, each in found.items()
    ]
    return csv_text(("head", "quantity", "median", "minimum", "maximum", "seeds"), rows)


def _title(quantity: str) -> str:
    if quantity.startswith("epochs_to_"):
        return f"epochs to {quantity.removeprefix('epochs_to_')} % train"
    split, _, name = quantity.partition("_")
    return f"{name.replace('_', ' ')} ({split})"


def _header(comparison: Comparison) -> list[str]:
    """The titles of the heads; those that were not trained with every seed say so."""
    header, seeds = [""], len(comparison.seeds)
    for method in comparison.methods:
        count = len(comparison.runs(method.name))
        header.append(method.title + (f" ({count} of {seeds} seeds)" if count < seeds else ""))
    return header


@dataclass(frozen=True)
class _Cell:
    """What the runs of one head gave, ready to be written."""

    spread: Spread | None
    seeds: int

    def __call__(self, write: Callable[[float], str]) -> str:
        if self.spread is None:
            return _NOTHING
        text = spread_cell(self.spread.median, self.spread.low, self.spread.high, write)
        found = self.seeds - self.spread.missing
        return text if found in {0, self.seeds} else f"{text} ({found} of {self.seeds} seeds)"


def _cells(comparison: Comparison) -> dict[str, list[_Cell]]:
    """A cell per head for each quantity that was measured."""
    summary = summarize(comparison)
    return {
        quantity: [
            _Cell(summary[method.name].get(quantity), len(comparison.runs(method.name)))
            for method in comparison.methods
        ]
        for quantity in quantities(comparison.records)
    }
