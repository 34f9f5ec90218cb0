"""What the commands share: how they begin, how they fail, what they print."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "console_of_first_process",
    "errors_in_one_line",
    "interrupted",
    "is_first_process",
    "prepare_folder",
    "removed_if_empty",
    "resume_warnings_as_notes",
    "say_notes",
    "say_written",
    "text_table",
    "wide_console",
    "wrong_arguments",
]

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Errors that a user can mend are told in a line, with exit status 1; others keep their trace.

    Also where a package is missing that only this command needs.
    """
    from ddn.errors import DeclarativeNodeError

    try:
        yield
    except (DeclarativeNodeError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def wrong_arguments() -> Iterator[None]:
    """A ValueError in here is a wrong argument, with exit status 2; errors of this project pass."""
    from ddn.errors import DeclarativeNodeError

    try:
        yield
    except DeclarativeNodeError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def interrupted(saved: str, command: str, *, first: bool = True) -> typer.Exit:
    """Say what is saved and which command goes on; the exit status that shells give to Ctrl-C.

    Of processes that share a run only the first one speaks.
    """
    if first:
        typer.echo(f"Interrupted. {saved} To go on:\n{command}", err=True)
    return typer.Exit(130)


# Columns; a terminal has its own.
_WIDTH_OF_FILES = 200


def is_first_process(devices: int) -> bool:
    """Whether this is the process that speaks and writes, of those that share a run."""
    return devices == 1 or all(os.environ.get(name, "0") == "0" for name in _RANKS)


def console_of_first_process(devices: int) -> Console:
    """A console that is silent in all processes but the first."""
    return wide_console(quiet=not is_first_process(devices))


def wide_console(*, quiet: bool = False) -> Console:
    """A console whose tables keep their width in a file or a pipe."""
    return Console(quiet=quiet, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


def prepare_folder(
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


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Where the block ends with an error, take away the folders that it made and left empty."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        # The innermost first; one that holds something stays, and so do those around it.
        with suppress(OSError):
            for place in made:
                if place.exists():
                    place.rmdir()
        raise


def text_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for the console."""
    # Text, because rich would take the brackets of a range for markup.
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, cell in enumerate(header):
        table.add_column(Text(cell), no_wrap=number == 0, min_width=11)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def say_notes(notes: Sequence[str]) -> None:
    """What the user may want to know, and what is no error."""
    for note in notes:
        typer.echo(f"Note: {note}", err=True)


@contextmanager
def resume_warnings_as_notes() -> Iterator[None]:
    """What is warned of a resumed run is told in a line, each once."""
    from ddn_etf.checkpoints import ResumeWarning

    said: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResumeWarning)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, ResumeWarning):
                before(message, category, *where, **more)
            elif str(message) not in said:
                said.add(str(message))
                say_notes([str(message)])

        warnings.showwarning = show
        yield


def say_written(console: Console, paths: Sequence[Path]) -> None:
    """Name the files that were written."""
    for path in paths:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)
