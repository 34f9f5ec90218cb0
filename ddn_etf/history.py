"""What was measured in a run, epoch by epoch, and its file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddn.errors import DeclarativeNodeError

__all__ = ["EpochRecord", "HistoryError", "csv_text", "history_csv", "read_history"]

_COLUMNS = ("head", "seed", "epoch", "split", "quantity", "value")


class HistoryError(DeclarativeNodeError, ValueError):
    """A file that is no history of a run."""


@dataclass(frozen=True, eq=False)
class EpochRecord:
    """What was measured at the end of one epoch, in evaluation mode and on whole splits.

    Attributes:
        head: name of the method.
        seed: of the run.
        epoch: 1 after the first pass through the training data.
        values: ``train_loss``, ``train_accuracy``, ``train_NC1``, ... and the same for ``test``.
            Accuracies are per cent; the metrics are those of
            :func:`ddn_etf.classifier.measure`. NaN stands for what does not exist, such as the
            severity of mistakes where there are none.

    Two records are equal if all is equal, NaN being equal to NaN.
    """

    head: str
    seed: int
    epoch: int
    values: dict[str, float]

    # A record that is read back is the one that was written, and NaN != NaN.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EpochRecord):
            return NotImplemented
        same_run = (self.head, self.seed, self.epoch) == (other.head, other.seed, other.epoch)
        return (
            same_run
            and self.values.keys() == other.values.keys()
            and all(
                value == other.values[name]
                or (math.isnan(value) and math.isnan(other.values[name]))
                for name, value in self.values.items()
            )
        )

    __hash__ = None  # type: ignore[assignment]


def history_csv(records: Iterable[EpochRecord]) -> str:
    """One row per head, seed, epoch, split and quantity; numbers are written without rounding."""
    rows = [
        (record.head, record.seed, record.epoch, *name.split("_", 1), repr(value))
        for record in records
        for name, value in record.values.items()
    ]
    return csv_text(_COLUMNS, rows)


def read_history(path: Path) -> list[EpochRecord]:
    """The records of a file of :func:`history_csv`, exactly as they were measured.

    Raises:
        HistoryError: no such file, or a file of another kind; names the line.
    """
    if not path.is_file():
        raise HistoryError(f"there is no history {path}; give the folder of a run")
    values: dict[tuple[str, int, int], dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise HistoryError(
                f"{path} is not a history: its columns must be {', '.join(_COLUMNS)}, found "
                f"{', '.join(reader.fieldnames or ['none'])}"
            )
        for row in reader:
            try:
                key = (row["head"], int(row["seed"]), int(row["epoch"]))
                name = f"{row['split']}_{row['quantity']}"
                values.setdefault(key, {})[name] = float(row["value"])
            except (TypeError, ValueError) as error:
                raise HistoryError(
                    f"{path}, line {reader.line_num}, is not a row of a history ({error}); "
                    "the checkpoint of the run has the history too: --resume writes it again"
                ) from error
    return [EpochRecord(*key, found) for key, found in values.items()]


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
