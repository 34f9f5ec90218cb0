"""``ddn-etf evaluate``: all metrics of a checkpoint, on train and test data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ddn_etf.commands.shared import (
    errors_in_one_line,
    say_notes,
    say_written,
    text_table,
    wide_console,
    wrong_arguments,
)

__all__ = ["evaluate_command"]


def evaluate_command(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a run: of ddn-etf train, or one under runs.")
    ],
    checkpoint: Annotated[
        str, typer.Option(help="File of the folder to evaluate, for example previous.ckpt.")
    ] = "last.ckpt",
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for evaluation.csv and evaluation.json; the run's by default."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Another data set with the same classes and input shape.")
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option(help="Folder with the files of the data set.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
) -> None:
    """Measure everything a checkpoint can show on whole train and test splits.

    Prints a table and writes evaluation.csv and evaluation.json, in which numbers are not rounded.
    """
    with errors_in_one_line():
        from ddn_etf.commands.folders import FolderError, options_of_folder, run_folders
        from ddn_etf.commands.options import TrainOptions
        from ddn_etf.evaluation import evaluate, evaluation_csv, evaluation_json
        from ddn_etf.files import write_atomically
        from ddn_etf.tables import evaluation_table
        from ddn_etf.training import load_classifier

        options = options_of_folder(folder)
        if not isinstance(options, TrainOptions):
            runs = ", ".join(str(place) for _, _, place in run_folders(options, folder))
            raise FolderError(f"{folder} holds several runs; give one of {runs}")
        with wrong_arguments():
            options = replace(
                options,
                dataset=dataset or options.dataset,
                data_folder=data_folder or options.data_folder,
                # Where it was trained, and by how many processes, does not matter here.
                accelerator=accelerator,
                precision="32",
                devices=1,
            )
            options.check()
            say_notes(options.notes())
            data = options.load_data()
        [method] = options.methods()
        classifier = load_classifier(
            folder / checkpoint,
            method,
            data,
            options.settings(),
            seed=options.seed,
            backbone=options.backbone(data),
        )
        evaluation = evaluate(classifier.to(options.device()), data)
        where = output or folder
        where.mkdir(parents=True, exist_ok=True)
        paths = [where / "evaluation.csv", where / "evaluation.json"]
        write_atomically(paths[0], evaluation_csv(evaluation))
        write_atomically(paths[1], evaluation_json(evaluation))
        console = wide_console()
        title = f"{data.name}: {method.title}, seed {options.seed}, epoch {evaluation.epochs}"
        values = {split: each.values for split, each in evaluation.splits.items()}
        console.print(text_table(title, *evaluation_table(values)))
        say_written(console, paths)
