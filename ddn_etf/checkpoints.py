"""Checkpoints that survive what can happen to them, and whether one can be resumed.

``last.ckpt`` is the state after the last whole epoch, ``previous.ckpt`` the one before. Each is
written beside its place and renamed into it, so that a process killed at any moment, or a full disk,
leaves ``last.ckpt`` whole.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddn.errors import DeclarativeNodeError
from ddn_etf._description import describe, describe_modules, digest
from ddn_etf.data.dataset import Dataset, LazyInputs
from ddn_etf.files import write_atomically
from ddn_etf.heads import Head
from ddn_etf.settings import TrainingSettings
from ddn_etf.versions import versions

__all__ = [
    "BACKUP_NAME",
    "CHECKPOINT_NAME",
    "AnotherRunError",
    "ResumeError",
    "ResumeWarning",
    "another_run",
    "check_checkpoint",
    "read_checkpoint",
    "run_identity",
    "write_checkpoint",
]

CHECKPOINT_NAME = "last.ckpt"
"""The file with the state after the last whole epoch."""

BACKUP_NAME = "previous.ckpt"
"""The file with the state one epoch before that."""


class ResumeError(DeclarativeNodeError, RuntimeError):
    """There is no checkpoint, or it is damaged, or it belongs to another run."""


class AnotherRunError(ResumeError):
    """The checkpoint is whole, and the run that is to go on is not the one that wrote it."""


class ResumeWarning(UserWarning):
    """A run goes on, and nobody can promise the numbers of an uninterrupted one."""


def run_identity(
    name: str,
    seed: int,
    settings: TrainingSettings,
    dataset: Dataset,
    head: nn.Module,
    backbone: nn.Module,
) -> dict[str, Any]:
    """Everything that must agree for a resumed run to equal an uninterrupted one.

    Names do not decide: there are imbalanced and noisy variants of one data set, and heads of one
    kind with other options. Of the data this has the number of train samples and a digest of all
    labels, of all inputs and of the tree of the classes; of inputs that are read when they are asked
    for, a digest of 64 of each split. Of head and backbone it has the type and the plain public
    attributes of every module.

    Args:
        name: of the method.
        seed: of the run.
        settings: of the run.
        dataset: train and test split.
        head: untrained.
        backbone: untrained.

    Returns:
        Numbers and text, which are the same in every process.
    """
    distances = dataset.class_distances
    # Inputs that are read when they are asked for may be views drawn at random.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs = [digest(_inputs(each)) for each in (dataset.train_inputs, dataset.test_inputs)]
    return {
        "head": name,
        "seed": seed,
        "dataset": dataset.name,
        **settings.as_table(),
        "train_samples": len(dataset.train_labels),
        "train_labels": digest([dataset.train_labels]),
        "train_inputs": inputs[0],
        "test_labels": digest([dataset.test_labels]),
        "test_inputs": inputs[1],
        "hierarchy": "none" if distances is None else digest([distances]),
        "head_options": _describe_head(head),
        "backbone": describe_modules(backbone),
    }


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint; the one that was there becomes ``previous.ckpt``.

    The entry ``versions`` is added: those of this package and of PyTorch and, where it is known, the
    commit.

    Raises:
        WriteError: a full disk, for example. The checkpoint that was there is still there.
    """
    # Into memory first: torch.save hides the cause of a failed write behind one of its own.
    content = io.BytesIO()
    torch.save({**checkpoint, "versions": _versions()}, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        _second_name(path, path.with_name(BACKUP_NAME))
    write_atomically(path, content.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of :func:`ddn_etf.training.train`, every byte of it checked.

    Raises:
        ResumeError: no file, a damaged one, or one of another kind. If ``previous.ckpt`` is whole,
            the message says how to go on from it.
    """
    if not path.is_file():
        raise ResumeError(
            f"there is no checkpoint {path} to resume from; start the run without resume"
        )
    try:
        return _read(path)
    except ResumeError as error:
        backup = path.with_name(BACKUP_NAME)
        if path.name == BACKUP_NAME or not backup.is_file():
            raise
        try:
            epochs = len(_read(backup)["history"])
        except ResumeError:
            raise error from None
        raise ResumeError(
            f"{path} is damaged, or not a checkpoint of this program. {backup} is whole and has "
            f"the state after epoch {epochs}: copy it to {path.name} and resume again, which "
            "repeats what came after and gives the same numbers"
        ) from error


def check_checkpoint(
    path: Path, wanted: dict[str, Any], *, may_be_longer: bool = True
) -> dict[str, Any]:
    """Check that the run ``wanted`` can go on from a checkpoint.

    Args:
        path: the file.
        wanted: :func:`run_identity` of the run that is to go on. Everything has to agree, but for
            the number of epochs, which may be larger than it was.
        may_be_longer: False where it may not, because the learning rates of a longer run differ
            from the first epoch on.

    Returns:
        The checkpoint.

    Raises:
        AnotherRunError: the checkpoint of another run. Names what differs.
        ResumeError: no file, a damaged file or one of another kind, or more epochs than wanted.

    Warns:
        ResumeWarning: the checkpoint is of an earlier version, which did not keep all of this, so
            that it cannot be compared; or this package, its commit or PyTorch has another version
            than wrote it.
    """
    checkpoint = read_checkpoint(path)
    found, epochs = checkpoint["run"], len(checkpoint["history"])
    difference = another_run(found, wanted, apart_from={"epochs"} if may_be_longer else set())
    if difference is not None:
        raise AnotherRunError(f"{path} belongs to {difference}, or start a new run")
    absent = [name for name in wanted if name not in found]
    if absent:
        warnings.warn(
            f"{path} was written by an earlier version, which did not keep {', '.join(absent)}; "
            "whether these are still the same cannot be checked",
            ResumeWarning,
            stacklevel=2,
        )
    if epochs > wanted["epochs"]:
        raise ResumeError(
            f"{path} already has {epochs} epochs, and {wanted['epochs']} are asked for; ask for "
            "at least as many"
        )
    changed = _changed_versions(checkpoint)
    if changed:
        warnings.warn(
            f"{path} was written with {', '.join(changed)}: what comes after it need not be what an "
            "uninterrupted run gives bit for bit, which is so with the same versions only",
            ResumeWarning,
            stacklevel=2,
        )
    return checkpoint


def another_run(
    found: dict[str, Any], wanted: dict[str, Any], *, apart_from: set[str]
) -> str | None:
    """How the run of a checkpoint differs from the one wanted, with the remedy; None if it does not.

    Args:
        found: the entry ``run`` of the checkpoint. What it does not have is not compared.
        wanted: :func:`run_identity`.
        apart_from: names that may differ.
    """
    for name, value in wanted.items():
        if name in apart_from or name not in found or found[name] == value:
            continue
        if name in _DATA:
            return (
                f"a run with other {_DATA[name]} ({found[name]} there, {value} now); resume with the "
                "same data, imbalance and label noise included"
            )
        there, here = _first_difference(found[name], value)
        title = name.replace("_", " ") if name in _TEXTS else name
        return (
            f"a run with {title} = {there!r}, and {title} = {here!r} is asked for; resume with the "
            f"same {title}"
        )
    return None


_VERSIONS = ("ddn-torch", "torch", "commit")


@functools.cache
def _versions() -> dict[str, str]:
    found = versions()
    return {name: found[name] for name in _VERSIONS if name in found}


def _changed_versions(checkpoint: dict[str, Any]) -> list[str]:
    """What wrote the checkpoint and is another version now; what one of the two lacks is not compared."""
    now, then = _versions(), checkpoint.get("versions", {})
    return [
        f"{name} {then[name]} (now {now[name]})"
        for name in _VERSIONS
        if name in now and then.get(name, now[name]) != now[name]
    ]


_DATA = {
    "train_samples": "number of train samples",
    "train_labels": "train labels",
    "train_inputs": "train inputs",
    "test_labels": "test labels",
    "test_inputs": "test inputs",
    "hierarchy": "distances between the classes in their hierarchy",
}
"""What of the identity is told of the data set, in words."""

_TEXTS = frozenset({"head_options", "backbone"})

_LAZY_SAMPLES = 64


def _inputs(inputs: Tensor | LazyInputs) -> Iterator[Tensor]:
    """The tensors that stand for the inputs of a split."""
    yield torch.tensor(inputs.shape)
    if isinstance(inputs, Tensor):
        yield from inputs.split(4096)
    else:
        count = min(len(inputs), _LAZY_SAMPLES)
        yield inputs[[k * len(inputs) // count for k in range(count)]]


def _describe_head(head: nn.Module) -> str:
    """Options of a head; its temperature, and what follows a schedule, are no plain attributes."""
    lines = [describe_modules(head)]
    for path, module in head.named_modules():
        if isinstance(module, Head):
            lines.append(f"{path or 'module'}.temperature: {describe(module.temperature)}")
        schedules = getattr(module, "_schedules", {})
        lines += [f"{path}.{name}: {describe(schedules[name])}" for name in sorted(schedules)]
    return "\n".join(lines)


def _first_difference(found: Any, wanted: Any) -> tuple[Any, Any]:
    """Of texts of several lines, the first that differ."""
    if not (isinstance(found, str) and isinstance(wanted, str)):
        return found, wanted
    for there, here in zip_longest(found.splitlines(), wanted.splitlines(), fillvalue="none"):
        if there != here:
            return there, here
    return found, wanted


def _read(path: Path) -> dict[str, Any]:
    try:
        # torch.load does not notice a changed byte inside a tensor; the checksums of the file do.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum does not agree")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _ = checkpoint["run"], checkpoint["state_dict"], len(checkpoint["history"])
    except (
        EOFError,
        KeyError,
        RuntimeError,
        TypeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise ResumeError(
            f"{path} is damaged, or not a checkpoint of this program; start a new run"
        ) from error
    return checkpoint


def _second_name(path: Path, other: Path) -> None:
    """Make ``other`` a second name of the file, or a copy where the file system has no links."""
    temporary = other.with_name(f".{other.name}.{os.getpid()}")
    try:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copy2(path, temporary)
        os.replace(temporary, other)
    finally:
        temporary.unlink(missing_ok=True)
