"""``ddn-etf compare``: several heads with several seeds each."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddn_etf.commands.configuration import CONFIG_NAME, config_toml, with_options
from ddn_etf.commands.options import CompareOptions, TrainingOptions, TrainOptions
from ddn_etf.commands.progress import RunProgress
from ddn_etf.commands.shared import (
    console_of_first_process,
    errors_in_one_line,
    interrupted,
    is_first_process,
    prepare_folder,
    removed_if_empty,
    say_notes,
    say_written,
    text_table,
    wrong_arguments,
)

if TYPE_CHECKING:
    from ddn_etf.data import Dataset

__all__ = ["compare_command", "options_of_run"]


@with_options(CompareOptions)
def compare_command(
    options: CompareOptions,
    output: Annotated[Path, typer.Option(help="Folder of the comparison.")] = Path(
        "ddn-etf-compare"
    ),
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep the finished runs in the output folder, do the rest."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in the output folder.")
    ] = False,
) -> None:
    """Compare heads with several seeds each.

    Without arguments: three heads with three seeds each on scikit-learn's handwritten digits.
    Prints a table and writes report.html, figures, history.csv and summary.csv. Every run has a
    folder of its own under runs, as ddn-etf train makes it.
    """
    with errors_in_one_line():
        if resume and overwrite:
            raise typer.BadParameter("--resume keeps what --overwrite would replace; give one")
        with wrong_arguments():
            options.check()
        first = is_first_process(options.devices)
        with removed_if_empty(output):
            if first:
                say_notes(options.notes())
                _prepare(output, resume=resume, overwrite=overwrite)
            whole = _with_kept(options, output) if resume and first else options
            with wrong_arguments():
                dataset = options.load_data()
            if first and not resume:
                _forget_runs(options, output)
            if whole != options:
                _check_kept(options, whole, output, dataset)
            _run(options, whole, output, dataset, resume=resume, first=first)


def options_of_run(options: CompareOptions, head: str, seed: int) -> TrainOptions:
    """The options with which ``ddn-etf train`` makes one of the runs."""
    shared = {field.name: getattr(options, field.name) for field in fields(TrainingOptions)}
    return TrainOptions(**shared, head=head, seed=seed)


def _prepare(output: Path, *, resume: bool, overwrite: bool) -> None:
    from ddn_etf.report import REPORT_FILES

    prepare_folder(
        output,
        (*REPORT_FILES, "runs"),
        overwrite=overwrite or resume,
        instead="another --output, --resume to keep the runs that are finished",
    )


def _forget_runs(options: CompareOptions, output: Path) -> None:
    """Take away the checkpoints of runs that are replaced, so that --resume cannot keep them."""
    from ddn_etf.checkpoints import BACKUP_NAME, CHECKPOINT_NAME
    from ddn_etf.compare import run_folder

    for method in options.methods():
        for seed in options.seed_numbers():
            for name in (CHECKPOINT_NAME, BACKUP_NAME):
                (run_folder(output, method.name, seed) / name).unlink(missing_ok=True)


def _with_kept(options: CompareOptions, output: Path) -> CompareOptions:
    """These options, with the heads and seeds of the comparison in the folder as well.

    Raises:
        FolderError: what lies there had other settings, or is no comparison.
    """
    from ddn_etf.commands.folders import FolderError, difference, options_of_folder

    if not (output / CONFIG_NAME).is_file():
        return options
    kept = options_of_folder(output)
    if not isinstance(kept, CompareOptions):
        raise FolderError(f"{output} is a folder of ddn-etf {kept.command}; give another --output")
    with wrong_arguments():
        # Longer runs of the same comparison can be resumed.
        found = difference(replace(kept, epochs=options.epochs), options)
        heads = [method.name for method in (*options.methods(), *kept.methods())]
    if found is not None:
        name, there, here = found
        raise FolderError(
            f"{output} holds a comparison with {name} = {there!r}, and {name} = {here!r} is asked for; "
            f"resume with the same {name}, or give another --output or --overwrite"
        )
    return replace(
        options, heads=",".join(dict.fromkeys(heads)), seeds=max(options.seeds, kept.seeds)
    )


def _check_kept(
    options: CompareOptions, whole: CompareOptions, output: Path, dataset: Dataset
) -> None:
    """Check that runs that the table will have, and that are not trained now, had the same data."""
    from ddn_etf.checkpoints import CHECKPOINT_NAME, another_run, read_checkpoint
    from ddn_etf.commands.folders import FolderError, run_folders
    from ddn_etf.training import identity_of

    asked = {place for _, _, place in run_folders(options, output)}
    identity = identity_of(
        options.methods()[0],
        options.seed_numbers()[0],
        dataset,
        options.settings(),
        backbone=options.backbone(dataset),
    )
    for _, _, place in run_folders(whole, output):
        path = place / CHECKPOINT_NAME
        if place in asked or not path.is_file():
            continue
        apart_from = {"head", "seed", "head_options", "epochs"}
        found = another_run(read_checkpoint(path)["run"], identity, apart_from=apart_from)
        if found is not None:
            raise FolderError(f"{path} belongs to {found}, or give another --output or --overwrite")


def _run(
    options: CompareOptions,
    whole: CompareOptions,
    output: Path,
    dataset: Dataset,
    *,
    resume: bool,
    first: bool,
) -> None:
    """Train what the options ask for; table and report have what the folder keeps beside it, too."""
    from ddn_etf.commands.folders import publish, read_comparison
    from ddn_etf.compare import compare, run_folder
    from ddn_etf.files import write_atomically
    from ddn_etf.tables import summary_table, table_title

    console = console_of_first_process(options.devices)
    if first:
        write_atomically(output / CONFIG_NAME, config_toml(whole))
    try:
        with RunProgress(console, options.epochs) as progress:

            def start(head: str, seed: int) -> None:
                if first:
                    place = run_folder(output, head, seed)
                    place.mkdir(parents=True, exist_ok=True)
                    text = config_toml(options_of_run(options, head, seed))
                    write_atomically(place / CONFIG_NAME, text)
                progress.start(head, seed)

            comparison = compare(
                options.methods(),
                options.seed_numbers(),
                dataset,
                options.settings(),
                backbone=options.backbone(dataset),
                on_start=start,
                on_epoch=progress.update,
                on_kept=progress.kept,
                folder=output,
                resume=resume,
                tensorboard=options.tensorboard,
            )
        if not first:
            return
        notes = []
        if whole != options:
            comparison, left_out = read_comparison([output])
            notes = [
                "With the runs that the folder has of an earlier comparison."
                + (f" Not finished, and left out: {'; '.join(left_out)}." if left_out else "")
            ]
        console.print(text_table(table_title(comparison), *summary_table(comparison)))
        for note in notes:
            console.print(note, highlight=False, soft_wrap=True, markup=False)
        written = publish(comparison, [(whole, output)], output, dataset=dataset, notes=notes)
        say_written(console, [output / CONFIG_NAME, *written])
    except KeyboardInterrupt:
        where = shlex.quote(str(output))
        config = shlex.quote(str(output / CONFIG_NAME))
        raise interrupted(
            f"Finished runs are kept in {output / 'runs'}, and of the one that was going on its last "
            "whole epoch.",
            f"ddn-etf compare --config {config} --output {where} --resume",
            first=first,
        ) from None
