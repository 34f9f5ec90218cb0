"""The commands of ``ddn-etf``: arguments in, files and a table out.

What takes time to import (PyTorch, Lightning, Matplotlib) is imported inside the commands, so that
``--help`` and wrong arguments are answered at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ddn_etf.methods import Method
    from ddn_etf.settings import TrainingSettings
    from ddn_etf.training import EpochRecord

__all__ = ["app"]

app = typer.Typer(
    help="Train classifiers whose last layer is, or is not, the nearest simplex ETF.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Epochs = Annotated[int, typer.Option(min=1, help="Passes through the training data.")]
BatchSize = Annotated[int, typer.Option(min=2, help="Samples per step.")]
LearningRate = Annotated[float, typer.Option(help="The same for all heads.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch.")]
Accelerator = Annotated[str, typer.Option(help="cpu or gpu.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results that are in the output folder.")
]


@app.command("compare")
def compare_command(
    output: Annotated[
        Path, typer.Option(help="Folder for report.html, figure.png and the CSV files.")
    ] = Path("ddn-etf-compare"),
    epochs: Epochs = 30,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 3,
    heads: Annotated[
        str, typer.Option(help="Heads to compare, separated by commas.")
    ] = "linear,fixed-etf,nearest-etf",
    batch_size: BatchSize = 128,
    learning_rate: LearningRate = 0.1,
    threads: Threads = 1,
    accelerator: Accelerator = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Compare heads on scikit-learn's handwritten digits, with several seeds each.

    Without arguments: three heads with three seeds each. Prints a table and writes report.html,
    figure.png, history.csv and summary.csv.
    """
    with _errors_in_one_line():
        methods = _methods([name.strip() for name in heads.split(",") if name.strip()])
        settings = _settings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            threads=threads,
            accelerator=accelerator,
        )
        from ddn_etf.compare import compare
        from ddn_etf.data import digits
        from ddn_etf.report import REPORT_FILES, summary_table, table_title, write_report

        _prepare_folder(output, REPORT_FILES, overwrite=overwrite)
        dataset = digits()
        console = Console()
        with _RunProgress(console, epochs) as progress:
            comparison = compare(
                methods,
                range(seeds),
                dataset,
                settings,
                on_start=progress.start,
                on_epoch=progress.update,
            )
        console.print(_table(table_title(comparison), *summary_table(comparison)))
        _say_written(console, write_report(comparison, output))


@app.command("train")
def train_command(
    head: Annotated[str, typer.Option(help="linear, fixed-etf or nearest-etf.")] = "nearest-etf",
    output: Annotated[Path, typer.Option(help="Folder for last.ckpt and history.csv.")] = Path(
        "ddn-etf-train"
    ),
    epochs: Epochs = 30,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that is random.")] = 0,
    batch_size: BatchSize = 128,
    learning_rate: LearningRate = 0.1,
    threads: Threads = 1,
    accelerator: Accelerator = "cpu",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue from last.ckpt in the output folder."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train one head on scikit-learn's handwritten digits, with a checkpoint after every epoch.

    A run that was interrupted continues with --resume and then gives the same numbers as one that
    was not. --epochs is the total, so --resume can also make a finished run longer.
    """
    with _errors_in_one_line():
        if resume and overwrite:
            raise typer.BadParameter("--resume continues what --overwrite would replace; give one")
        [method] = _methods([head])
        settings = _settings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            threads=threads,
            accelerator=accelerator,
        )
        from ddn_etf.checkpoints import CHECKPOINT_NAME
        from ddn_etf.data import digits
        from ddn_etf.report import history_csv, run_table
        from ddn_etf.training import train

        if not resume:
            names = (CHECKPOINT_NAME, "history.csv")
            _prepare_folder(output, names, overwrite=overwrite, instead="--resume to continue")
            # So that --resume cannot go on with the run that is being replaced.
            (output / CHECKPOINT_NAME).unlink(missing_ok=True)
        dataset = digits()
        console = Console()
        try:
            with _RunProgress(console, epochs) as progress:
                progress.start(method.name, seed)
                classifier = train(
                    method,
                    seed,
                    dataset,
                    settings,
                    on_epoch=progress.update,
                    checkpoint_dir=output,
                    resume=resume,
                )
        except KeyboardInterrupt:
            typer.echo("Interrupted. The same command with --resume continues.", err=True)
            raise typer.Exit(130) from None
        title = f"{dataset.name}, seed {seed}"
        console.print(_table(title, *run_table(classifier.history)))
        history = output / "history.csv"
        history.write_text(history_csv(classifier.history))
        _say_written(console, [history, output / CHECKPOINT_NAME])


class _RunProgress:
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

    def __enter__(self) -> _RunProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, head: str, seed: int) -> None:
        self._task = self._progress.add_task(
            f"{head:<11} seed {seed}", total=self._epochs, values=""
        )

    def update(self, record: EpochRecord) -> None:
        values = (
            f"loss {record.values['train_loss']:.3f}  "
            f"train {record.values['train_accuracy']:.1f} %  "
            f"test {record.values['test_accuracy']:.1f} %"
        )
        if self._task is not None:
            self._progress.update(self._task, completed=record.epoch, values=values)
        if record.epoch == self._epochs and not self._console.is_terminal:
            self._console.print(f"{record.head:<11} seed {record.seed}  {values}")


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Errors that a user can mend are told in a line, with exit status 1; others keep their trace.

    Also where a package is missing that only this command needs.
    """
    from ddn.errors import DeclarativeNodeError

    try:
        yield
    except (DeclarativeNodeError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def _settings(**options: int | float | str) -> TrainingSettings:
    from ddn_etf.settings import TrainingSettings

    try:
        return TrainingSettings(**options)  # type: ignore[arg-type]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _methods(names: Sequence[str]) -> tuple[Method, ...]:
    from ddn_etf.methods import find_methods

    try:
        return find_methods(names)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _prepare_folder(
    folder: Path, names: Sequence[str], *, overwrite: bool, instead: str = "another --output"
) -> None:
    """Make the folder, and find out before the training whether results can go there."""
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        raise FileExistsError(
            f"{folder} already holds {', '.join(present)}; give {instead}, or --overwrite to "
            "replace them (other files in the folder stay)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"cannot write to the output folder {folder} ({error.strerror}); choose another "
            "--output"
        ) from error


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    # Text, because rich would take the brackets of a range for markup.
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, cell in enumerate(header):
        table.add_column(Text(cell), no_wrap=number == 0, min_width=16)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _say_written(console: Console, paths: Sequence[Path]) -> None:
    for path in paths:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
