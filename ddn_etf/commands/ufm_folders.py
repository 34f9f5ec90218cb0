"""Folders of the ``ufm`` commands: what is in them, how it gets there, and which command goes on."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from ddn_etf.commands.configuration import CONFIG_NAME, Options, read_options

__all__ = ["check_same_options", "command_to_go_on", "read_column", "write_results"]


def command_to_go_on(command: str, folder: Path, flag: str) -> str:
    """The command line that takes up what was interrupted: ``flag`` says how."""
    where, config = shlex.quote(str(folder)), shlex.quote(str(folder / CONFIG_NAME))
    return f"ddn-etf {command} --config {config} --output {where} {flag}"


def write_results(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files by their names in the folder, figures included."""
    from ddn_etf.files import write_atomically

    (folder / "figures").mkdir(exist_ok=True)
    for name, content in contents.items():
        write_atomically(folder / name, content)


def check_same_options(options: Options, folder: Path, *, may_differ: Sequence[str]) -> None:
    """Check that the runs in a folder were made with these options, before they are kept.

    Args:
        options: what is asked for now.
        folder: with the ``config.toml`` of what was run before.
        may_differ: fields that no single run depends on.

    Raises:
        ConfigurationError: no readable ``config.toml``.
        FolderError: another field differs; names it with both values.
    """
    from ddn_etf.commands.folders import FolderError

    before = read_options(folder / CONFIG_NAME, {options.command: type(options)})
    for field in fields(options):
        old, new = getattr(before, field.name), getattr(options, field.name)
        if field.name not in may_differ and old != new:
            name = field.name.replace("_", "-")
            raise FolderError(
                f"the runs in {folder} were made with {name} = {old!r}, and {name} = {new!r} is asked "
                "for: their numbers do not belong together; give another --output, or --overwrite to "
                "start anew"
            )


def read_column(path: Path, name: str) -> list[float]:
    """The numbers of one column of a CSV file; none where the file is missing.

    Raises:
        FolderError: a cell that is no number.
    """
    from ddn_etf.commands.folders import FolderError

    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [float(row[name]) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(
            f"{path} has no column {name!r} of numbers ({error}); take it away, or start anew with "
            "--overwrite"
        ) from error
