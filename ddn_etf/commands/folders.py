"""Run folders: read back what a command left there, and write the report of one or several."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from ddn.errors import DeclarativeNodeError
from ddn_etf.checkpoints import CHECKPOINT_NAME
from ddn_etf.commands.configuration import (
    CONFIG_NAME,
    ConfigurationError,
    command_line,
    read_options,
)
from ddn_etf.commands.effective import HEAD_OPTIONS, has_head_options, in_effect
from ddn_etf.commands.options import CompareOptions, TrainingOptions, TrainOptions
from ddn_etf.compare import Comparison, run_folder
from ddn_etf.evaluation import evaluate
from ddn_etf.history import EpochRecord, HistoryError, read_history
from ddn_etf.report import Origin, write_report
from ddn_etf.report_figures import Evidence, report_figures
from ddn_etf.training import load_classifier
from ddn_etf.versions import versions

if TYPE_CHECKING:
    from ddn_etf.data import Dataset

__all__ = [
    "FolderError",
    "comparison_of",
    "difference",
    "flag",
    "options_of_folder",
    "publish",
    "read_comparison",
    "run_folders",
]

_MAY_DIFFER = frozenset({"data_folder", "tensorboard"})

_KINDS: dict[str, type[TrainingOptions]] = {"train": TrainOptions, "compare": CompareOptions}


class FolderError(DeclarativeNodeError, ValueError):
    """Folders whose runs are missing, unfinished, or do not belong into one table."""


def options_of_folder(folder: Path) -> TrainingOptions:
    """What was run in a folder, from its ``config.toml``, without what the run did not look at.

    Raises:
        ConfigurationError: there is none, it is not one of ``train`` or ``compare``, or it has a name
            that is not known.
    """
    path = folder / CONFIG_NAME
    options = read_options(path, _KINDS)
    try:
        return in_effect(options)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def run_folders(options: TrainingOptions, folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Head, seed and folder of every run that these options ask for."""
    for method in options.methods():
        for seed in options.seed_numbers():
            alone = isinstance(options, TrainOptions)
            yield method.name, seed, folder if alone else run_folder(folder, method.name, seed)


def comparison_of(
    options: TrainingOptions, dataset: str, records: Sequence[EpochRecord]
) -> Comparison:
    """The records of the runs of one folder as a comparison."""
    return Comparison(
        dataset, options.settings(), options.methods(), options.seed_numbers(), tuple(records)
    )


def read_comparison(folders: Sequence[Path]) -> tuple[Comparison, list[str]]:
    """The finished runs of several folders, as if one command had made them.

    Returns:
        The comparison, and what was left out of it, a line per run.

    Raises:
        FolderError: settings that differ, a run that is there twice, or no finished run.
    """
    options = [options_of_folder(folder) for folder in folders]
    first = options[0]
    # Every pair: options of heads are compared only where both have such heads.
    for (one, here), (other, there) in combinations(zip(options, folders, strict=True), 2):
        _check_alike(one, here, other, there)
    found: dict[tuple[str, int], list[EpochRecord]] = {}
    left_out = []
    for each, folder in zip(options, folders, strict=True):
        for head, seed, place in run_folders(each, folder):
            run: list[EpochRecord] = []
            with suppress(HistoryError):
                run = read_history(place / "history.csv")
            if len(run) != each.epochs:
                left_out.append(f"{head}, seed {seed}: {len(run)} of {each.epochs} epochs")
            elif (head, seed) in found:
                raise FolderError(
                    f"{folder} has a run with head {head} and seed {seed}, and so has another of the "
                    "folders; give each run once"
                )
            else:
                found[head, seed] = run
    if not found:
        raise FolderError(
            f"no finished run in {', '.join(map(str, folders))} ({'; '.join(left_out)}); go on with "
            "--resume first"
        )
    methods = {
        method.name: method
        for each in options
        for method in each.methods()
        if any(head == method.name for head, _ in found)
    }
    seeds = sorted({seed for _, seed in found})
    records = [
        record for head in methods for seed in seeds for record in found.get((head, seed), [])
    ]
    comparison = Comparison(
        first.variant().name(first.dataset),
        first.settings(),
        tuple(methods.values()),
        tuple(seeds),
        tuple(records),
    )
    return comparison, left_out


def publish(
    comparison: Comparison,
    sources: Sequence[tuple[TrainingOptions, Path]],
    output: Path,
    *,
    dataset: Dataset | None = None,
    notes: Sequence[str] = (),
    fresh: bool = True,
) -> list[Path]:
    """Write report, figures and tables of a comparison.

    Args:
        comparison: its records.
        sources: the folders with the checkpoints, and what was run there.
        output: where to write.
        dataset: if it has been read already.
        notes: what else the page has to say.
        fresh: the runs were made by this process; otherwise their folders know the versions.

    Returns:
        The paths of what was written.
    """
    notes = list(notes)
    evidence: dict[str, Evidence] = {}
    try:
        dataset = sources[0][0].load_data() if dataset is None else dataset
        evidence = _evidence(comparison, sources, dataset)
    except (DeclarativeNodeError, OSError, ValueError) as error:
        notes.append(f"Figures of features are left out: {error}")
    hierarchy = None if dataset is None else dataset.hierarchy
    origin = Origin(
        command="\n".join(command_line(options) for options, _ in sources),
        configuration="\n".join(
            (folder / CONFIG_NAME).read_text(encoding="utf-8") for _, folder in sources
        ),
        versions=versions() if fresh else _versions([folder for _, folder in sources]),
    )
    return write_report(
        comparison,
        output,
        figures=report_figures(
            comparison,
            evidence,
            class_distances=None if hierarchy is None else hierarchy.distances,
            class_names=None if hierarchy is None else hierarchy.leaf_names,
        ),
        origin=origin,
        missing=" ".join(notes),
    )


def _evidence(
    comparison: Comparison,
    sources: Sequence[tuple[TrainingOptions, Path]],
    dataset: Dataset,
) -> dict[str, Evidence]:
    """What the trained classifiers of the first seed of each head make of the data."""
    evidence: dict[str, Evidence] = {}
    for options, folder in sources:
        for head, seed, place in run_folders(options, folder):
            if head in evidence or not comparison.run(head, seed):
                continue
            method = next(each for each in comparison.methods if each.name == head)
            classifier = load_classifier(
                place / CHECKPOINT_NAME,
                method,
                dataset,
                options.settings(),
                seed=seed,
                backbone=options.backbone(dataset),
            )
            evidence[head] = Evidence(evaluate(classifier, dataset), tuple(classifier.snapshots))
    return {method.name: evidence[method.name] for method in comparison.methods}


def difference(one: TrainingOptions, other: TrainingOptions) -> tuple[str, object, object] | None:
    """The first thing in which runs differ that do not belong into one table, and what it is in each.

    Head and seed may differ, and where the files are; options of heads too, where one of the two has
    no head that looks at them.
    """
    may_differ = set(_MAY_DIFFER)
    if not (has_head_options(one) and has_head_options(other)):
        may_differ |= set(HEAD_OPTIONS)
    for field in fields(TrainingOptions):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if mine != theirs and field.name not in may_differ:
            return field.name, mine, theirs
    return None


def flag(name: str, value: object) -> str:
    """A field with its value as one would type it."""
    word = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{word}" if value else f"--no-{word}"
    return f"no --{word}" if value is None else f"--{word} {shlex.quote(str(value))}"


def _check_alike(one: TrainingOptions, here: Path, other: TrainingOptions, there: Path) -> None:
    found = difference(one, other)
    if found is not None:
        name, mine, theirs = found
        raise FolderError(
            f"{here} was run with {flag(name, mine)} and {there} with {flag(name, theirs)}; one table "
            "can only hold runs that differ in head and seed"
        )


def _versions(folders: Sequence[Path]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for folder in folders:
        try:
            table = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for name, value in table.items():
            if value not in found.setdefault(name, []):
                found[name].append(value)
    return {name: "; ".join(values) for name, values in found.items()}
