"""``ddn-etf train``: one head, one seed, with a checkpoint after every epoch."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddn_etf.commands.configuration import CONFIG_NAME, config_toml, read_options, with_options
from ddn_etf.commands.options import TrainOptions
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
    from ddn_etf.checkpoints import AnotherRunError
    from ddn_etf.data import Dataset

__all__ = ["train_command"]


@with_options(TrainOptions)
def train_command(
    options: TrainOptions,
    output: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("ddn-etf-train"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from last.ckpt in the output folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in the output folder.")
    ] = False,
) -> None:
    """Train one head, with a checkpoint after every epoch.

    A run that was interrupted continues with --resume and then gives the same numbers as one that
    was not. --epochs is the total, so with a constant learning rate --resume can also make a
    finished run longer.
    """
    with errors_in_one_line(), resume_warnings_as_notes():
        if resume and overwrite:
            raise typer.BadParameter("--resume continues what --overwrite would replace; give one")
        with wrong_arguments():
            options = _without_what_was_in_vain(options, output) if resume else options
            options.check()
        first = is_first_process(options.devices)
        with removed_if_empty(output):
            if first:
                say_notes(options.notes())
            if first and not resume:
                _prepare(output, overwrite=overwrite)
            with wrong_arguments():
                dataset = options.load_data()
            if first:
                _begin(options, output, dataset, resume=resume)
            _run(options, output, dataset, resume=resume, overwrite=overwrite)


def _without_what_was_in_vain(options: TrainOptions, output: Path) -> TrainOptions:
    """Without options that the run never looked at, where its ``config.toml`` has the same.

    Earlier versions of ``ddn-etf compare`` wrote such into the folders of its runs.
    """
    from ddn_etf.commands.effective import in_effect, in_vain

    path = output / CONFIG_NAME
    if not path.is_file():
        return options
    kept = in_vain(read_options(path, {TrainOptions.command: TrainOptions}))
    return in_effect(options) if in_vain(options).items() <= kept.items() else options


def _prepare(output: Path, *, overwrite: bool) -> None:
    from ddn_etf.checkpoints import CHECKPOINT_NAME
    from ddn_etf.report import REPORT_FILES

    names = (CHECKPOINT_NAME, *REPORT_FILES)
    prepare_folder(output, names, overwrite=overwrite, instead="--resume to continue")


def _begin(options: TrainOptions, output: Path, dataset: Dataset, *, resume: bool) -> None:
    """The data are there: say in the folder what is run, and take away what is replaced."""
    from ddn_etf.checkpoints import BACKUP_NAME, CHECKPOINT_NAME, AnotherRunError
    from ddn_etf.files import write_atomically
    from ddn_etf.training import check_resume

    if resume:
        [method] = options.methods()
        try:
            check_resume(
                output / CHECKPOINT_NAME,
                method,
                options.seed,
                dataset,
                options.settings(),
                backbone=options.backbone(dataset),
            )
        except AnotherRunError as error:
            raise _in_flags(error, options, output) from error
    else:
        # So that --resume cannot go on with the run that is being replaced.
        for name in (CHECKPOINT_NAME, BACKUP_NAME):
            (output / name).unlink(missing_ok=True)
    write_atomically(output / CONFIG_NAME, config_toml(options))


def _in_flags(error: AnotherRunError, options: TrainOptions, output: Path) -> AnotherRunError:
    """The same error; where the folder knows its flags, in terms of these."""
    from ddn_etf.checkpoints import CHECKPOINT_NAME, AnotherRunError
    from ddn_etf.commands.folders import difference, flag, options_of_folder

    if not (output / CONFIG_NAME).is_file():
        return error
    kept = options_of_folder(output)
    if not isinstance(kept, TrainOptions):
        return error
    found = difference(kept, replace(options, epochs=kept.epochs))
    for name in ("seed", "head"):
        if getattr(kept, name) != getattr(options, name):
            found = name, getattr(kept, name), getattr(options, name)
    if found is None:
        return error
    name, there, here = found
    return AnotherRunError(
        f"{output / CHECKPOINT_NAME} belongs to a run with {flag(name, there)}, and {flag(name, here)} "
        "is asked for; resume with the same, or start a new run"
    )


def _run(
    options: TrainOptions, output: Path, dataset: Dataset, *, resume: bool, overwrite: bool
) -> None:
    from ddn_etf.checkpoints import CHECKPOINT_NAME
    from ddn_etf.commands.folders import comparison_of, publish
    from ddn_etf.tables import run_table
    from ddn_etf.training import train

    console = console_of_first_process(options.devices)
    [method] = options.methods()
    try:
        with RunProgress(console, options.epochs) as progress:
            progress.start(method.name, options.seed)
            classifier = train(
                method,
                options.seed,
                dataset,
                options.settings(),
                backbone=options.backbone(dataset),
                on_epoch=progress.update,
                checkpoint_dir=output,
                resume=resume,
                overwrite=overwrite,
                tensorboard=options.tensorboard,
            )
        if not is_first_process(options.devices):
            return
        console.print(
            text_table(f"{dataset.name}, seed {options.seed}", *run_table(classifier.history))
        )
        comparison = comparison_of(options, dataset.name, classifier.history)
        written = publish(comparison, [(options, output)], output, dataset=dataset)
        say_written(console, [output / CONFIG_NAME, *written, output / CHECKPOINT_NAME])
    except KeyboardInterrupt:
        raise _interrupted(output, first=is_first_process(options.devices)) from None


def _interrupted(output: Path, *, first: bool) -> typer.Exit:
    from ddn_etf.checkpoints import CHECKPOINT_NAME, read_checkpoint

    path = output / CHECKPOINT_NAME
    again = f"ddn-etf train --config {_quoted(output / CONFIG_NAME)} --output {_quoted(output)}"
    if not path.is_file():
        return interrupted("No epoch was finished, so that nothing is saved.", again, first=first)
    epochs = len(read_checkpoint(path)["history"])
    saved = f"{path} has the state after epoch {epochs}."
    return interrupted(saved, f"{again} --resume", first=first)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
