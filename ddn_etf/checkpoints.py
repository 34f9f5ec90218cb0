"""What makes two runs the same run, and whether a checkpoint can be resumed."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ddn.errors import DeclarativeNodeError
from ddn_etf.settings import TrainingSettings

__all__ = ["CHECKPOINT_NAME", "ResumeError", "check_checkpoint", "run_identity"]

CHECKPOINT_NAME = "last.ckpt"
"""The file with the state after the last whole epoch."""


class ResumeError(DeclarativeNodeError, RuntimeError):
    """There is no checkpoint, or it belongs to another run."""


def run_identity(head: str, seed: int, settings: TrainingSettings) -> dict[str, Any]:
    """Everything that must agree for a resumed run to equal an uninterrupted one."""
    return {"head": head, "seed": seed, **asdict(settings)}


def check_checkpoint(path: Path, wanted: dict[str, Any]) -> None:
    """Check that the run ``wanted`` can go on from a checkpoint.

    Args:
        path: the file.
        wanted: :func:`run_identity` of the run that is to go on. The number of epochs may be
            larger than it was; everything else has to agree.

    Raises:
        ResumeError: no file, a file of another kind, another run, or more epochs than wanted.
    """
    if not path.is_file():
        raise ResumeError(
            f"there is no checkpoint {path} to resume from; start the run without resume"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        found, epochs = checkpoint["run"], len(checkpoint["history"])
    except (EOFError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        raise ResumeError(
            f"{path} is damaged, or not a checkpoint of this program; start a new run"
        ) from error
    for name, value in wanted.items():
        if name != "epochs" and found.get(name) != value:
            raise ResumeError(
                f"{path} belongs to a run with {name} = {found.get(name)!r}, and {name} = "
                f"{value!r} is asked for; resume with the same {name}, or start a new run"
            )
    if epochs > wanted["epochs"]:
        raise ResumeError(
            f"{path} already has {epochs} epochs, and {wanted['epochs']} are asked for; ask for "
            "at least as many"
        )
