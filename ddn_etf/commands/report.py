"""``ddn-etf report``: tables, figures and page of runs that are done, made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ddn_etf.commands.shared import (
    errors_in_one_line,
    say_written,
    text_table,
    wide_console,
    wrong_arguments,
)

__all__ = ["report_command"]


def report_command(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of ddn-etf train or ddn-etf compare.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the report; needed for several, else the run's own."),
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option(help="Folder with the files of the data set.")
    ] = None,
) -> None:
    """Build report.html and the figures again from run folders, without training.

    Runs of several folders go into one table if they differ in head and seed only. Unfinished runs
    are left out, and named.
    """
    with errors_in_one_line():
        if len(folders) > 1 and output is None:
            raise typer.BadParameter("the report of several folders needs --output")
        from ddn_etf.commands.folders import options_of_folder, publish, read_comparison
        from ddn_etf.tables import summary_table, table_title

        with wrong_arguments():
            comparison, left_out = read_comparison(folders)
        sources = [
            (replace(options, data_folder=data_folder or options.data_folder), folder)
            for options, folder in ((options_of_folder(folder), folder) for folder in folders)
        ]
        where = output or folders[0]
        where.mkdir(parents=True, exist_ok=True)
        notes = [f"Unfinished, and left out: {'; '.join(left_out)}."] if left_out else []
        console = wide_console()
        written = publish(comparison, sources, where, notes=notes, fresh=False)
        console.print(text_table(table_title(comparison), *summary_table(comparison)))
        for note in notes:
            console.print(note, highlight=False)
        say_written(console, written)
