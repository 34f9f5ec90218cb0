"""``ddn-etf compare``: several heads with several seeds each."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddn_etf.commands.configuration import CONFIG_NAME, config_toml, with_options
from ddn_etf.commands.effective import HEAD_OPTIONS, has_head_options, in_effect
from ddn_etf.commands.options import CompareOptions, TrainingOptions, TrainOptions
from ddn_etf.commands.progress import RunProgress
from ddn_etf.commands.shared import (
    console_of_first_process,
    errors_in_one_line,
    interrupted,
    is_first_process,
    prepare_folder,
    removed_if_empty,
    resume_warnings_as_notes,
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
    with errors_in_one_line(), resume_warnings_as_notes():
        if resume and overwrite:
            raise typer.BadParameter("--resume keeps what --overwrite would replace; give one")
        # A head that is added to a comparison need not have the options of those that are there.
        whole = _with_kept(options, output) if resume else options
        options = replace(whole, heads=options.heads, seeds=options.seeds)
        with wrong_arguments():
            whole.check()
        first = is_first_process(options.devices)
        with removed_if_empty(output):
            if first:
                say_notes(options.notes())
                _prepare(output, resume=resume, overwrite=overwrite)
            with wrong_arguments():
                dataset = options.load_data()
            if first and not resume:
                _forget_runs(options, output)
            if first and resume:
                _check_kept(options, whole, output, dataset)
            _run(options, whole, output, dataset, resume=resume, first=first)


def options_of_run(options: CompareOptions, head: str, seed: int) -> TrainOptions:
    """The options with which ``ddn-etf train`` makes one of the runs."""
    shared = {field.name: getattr(options, field.name) for field in fields(TrainingOptions)}
    return in_effect(TrainOptions(**shared, head=head, seed=seed))


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

    Options of heads are those of the folder where only its heads have them.

    Raises:
        FolderError: what lies there had other settings, or is no comparison; or the number of epochs
            is another one, and not all runs of the folder are asked for.
    """
    from ddn_etf.commands.folders import FolderError, difference, flag, options_of_folder

    if not (output / CONFIG_NAME).is_file():
        return options
    kept = options_of_folder(output)
    if not isinstance(kept, CompareOptions):
        raise FolderError(f"{output} is a folder of ddn-etf {kept.command}; give another --output")
    with wrong_arguments():
        # Longer runs of the same comparison can be resumed.
        found = difference(replace(kept, epochs=options.epochs), options)
        heads = [method.name for method in (*options.methods(), *kept.methods())]
        mine, theirs = has_head_options(options), has_head_options(kept)
    if found is not None:
        name, there, here = found
        raise FolderError(
            f"{output} holds a comparison with {flag(name, there)}, and {flag(name, here)} is asked "
            "for; resume with the same, or give another --output or --overwrite"
        )
    whole = replace(
        options, heads=",".join(dict.fromkeys(heads)), seeds=max(options.seeds, kept.seeds)
    )
    asked = {method.name for method in options.methods()}
    if kept.epochs != options.epochs and (asked < set(heads) or options.seeds < kept.seeds):
        raise FolderError(
            f"{output} holds a comparison with --epochs {kept.epochs}, and --epochs {options.epochs} is "
            f"asked for: one table needs all runs at the same length; ask for all of them, --heads "
            f"{whole.heads} --seeds {whole.seeds}, or give another --output"
        )
    if theirs and not mine:
        whole = replace(whole, **{name: getattr(kept, name) for name in HEAD_OPTIONS})
    return whole


def _check_kept(
    options: CompareOptions, whole: CompareOptions, output: Path, dataset: Dataset
) -> None:
    """Check that the runs that are there go with this table, before anything is written.

    Those that are trained further are checked again, more closely, when their turn comes.
    """
    from ddn_etf.checkpoints import CHECKPOINT_NAME, another_run, read_checkpoint
    from ddn_etf.commands.folders import FolderError, run_folders
    from ddn_etf.training import identity_of

    asked = {place for _, _, place in run_folders(options, output)}
    places = [place for _, _, place in run_folders(whole, output)]
    places = [place for place in places if (place / CHECKPOINT_NAME).is_file()]
    if not places:
        return
    settings = options.settings()
    identity = identity_of(
        options.methods()[0],
        options.seed_numbers()[0],
        dataset,
        settings,
        backbone=options.backbone(dataset),
    )
    for place in places:
        path = place / CHECKPOINT_NAME
        checkpoint = read_checkpoint(path)
        apart_from = {"head", "seed", "head_options"}
        if place not in asked or not settings.schedule.depends_on_epochs:
            apart_from.add("epochs")
        found = another_run(checkpoint["run"], identity, apart_from=apart_from)
        if found is not None:
            raise FolderError(f"{path} belongs to {found}, or give another --output or --overwrite")
        epochs = len(checkpoint["history"])
        if place in asked and epochs > options.epochs:
            raise FolderError(
                f"{path} already has {epochs} epochs, and --epochs {options.epochs} is asked for; ask "
                "for at least as many, or give another --output or --overwrite"
            )


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
