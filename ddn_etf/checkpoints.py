"""Checkpoints that survive what can happen to them, and whether one can be resumed.

``last.ckpt`` is the state after the last whole epoch, ``previous.ckpt`` the one before. Each is
written beside its place and renamed into it, so that a process killed at any moment, or a full disk,
leaves ``last.ckpt`` whole.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from ddn.errors import DeclarativeNodeError
from ddn_etf.files import write_atomically
from ddn_etf.settings import TrainingSettings

__all__ = [
    "BACKUP_NAME",
    "CHECKPOINT_NAME",
    "ResumeError",
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


def run_identity(
    head: str, seed: int, settings: TrainingSettings, dataset: str = "digits"
) -> dict[str, Any]:
    """Everything that must agree for a resumed run to equal an uninterrupted one."""
    return {"head": head, "seed": seed, "dataset": dataset, **settings.as_table()}


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint; the one that was there becomes ``previous.ckpt``.

    Raises:
        WriteError: a full disk, for example. The checkpoint that was there is still there.
    """
    # Into memory first: torch.save hides the cause of a failed write behind one of its own.
    content = io.BytesIO()
    torch.save(checkpoint, content)
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
        ResumeError: no file, a damaged file or one of another kind, another run, or more epochs
            than wanted.
    """
    checkpoint = read_checkpoint(path)
    found, epochs = checkpoint["run"], len(checkpoint["history"])
    for name, value in wanted.items():
        if name == "epochs" and may_be_longer:
            continue
        if found.get(name) != value:
            raise ResumeError(
                f"{path} belongs to a run with {name} = {found.get(name)!r}, and {name} = "
                f"{value!r} is asked for; resume with the same {name}, or start a new run"
            )
    if epochs > wanted["epochs"]:
        raise ResumeError(
            f"{path} already has {epochs} epochs, and {wanted['epochs']} are asked for; ask for "
            "at least as many"
        )
    return checkpoint


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
