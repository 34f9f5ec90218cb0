"""What is seen of runs while they go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

if TYPE_CHECKING:
    from ddn_etf.history import EpochRecord

__all__ = ["RunProgress"]


class RunProgress:
    """A line per run with what was measured last; where nobody watches, a line per finished run."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console, self._epochs = console, epochs
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, head: str, seed: int) -> None:
        """A run begins."""
        self._task = self._progress.add_task(
            f"{head:<11} seed {seed}", total=self._epochs, values=""
        )

    def update(self, record: EpochRecord) -> None:
        """An epoch of it has ended."""
        if self._task is not None:
            self._progress.update(self._task, completed=record.epoch, values=_values(record))
        if record.epoch == self._epochs and not self._console.is_terminal:
            self._console.print(f"{record.head:<11} seed {record.seed}  {_values(record)}")

    def kept(self, record: EpochRecord) -> None:
        """A run was finished before."""
        self._console.print(f"{record.head:<11} seed {record.seed}  {_values(record)}  (kept)")


def _values(record: EpochRecord) -> str:
    return (
        f"loss {record.values['train_loss']:.3f}  "
        f"train {record.values['train_accuracy']:.1f} %  "
        f"test {record.values['test_accuracy']:.1f} %"
    )
