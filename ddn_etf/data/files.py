"""Files of published data sets: where they lie, and what to say when one is missing or damaged."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddn.errors import DeclarativeNodeError

__all__ = ["DataFileError", "check_file_labels", "check_length", "find_file", "read_bytes"]


class DataFileError(DeclarativeNodeError, ValueError):
    """A file of a data set that is missing, truncated, unreadable or holds what it must not."""


def find_file(title: str, name: str, root: Path, folders: Sequence[str], remedy: str) -> Path:
    """The file with this name, or with ``.gz`` after it, in one of the usual folders.

    Args:
        title: of the data set, for the message.
        name: of the file.
        root: the folder the user gave. It may be the folder of the files itself.
        folders: where the files lie below ``root``, in the layout of torchvision first.
        remedy: how to get the file, the end of the message.

    Raises:
        DataFileError: no such folder, or no such file in it; names the places looked at.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataFileError(f"{title}: there is no folder {root}; {remedy}")
    places = [root / folder for folder in folders] + [root]
    for place in places:
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    looked = ", ".join(str(place) for place in places)
    raise DataFileError(f"{title}: no file {name} in any of {looked}; {remedy}")


def read_bytes(path: Path) -> bytes:
    """What a file holds; one that ends in ``.gz`` is decompressed.

    Raises:
        DataFileError: the file cannot be read, or its compression is damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(
            f"{path} cannot be read ({error}); if it is truncated or damaged, delete it and fetch "
            "it again"
        ) from error


def check_length(path: Path, found: int, expected: int) -> None:
    """Check how many bytes a file holds.

    Raises:
        DataFileError: more or fewer than expected.
    """
    if found != expected:
        kind = "truncated" if found < expected else "too long"
        raise DataFileError(
            f"{path} is {kind}: it holds {found} bytes where {expected} are expected; delete it "
            "and fetch it again"
        )


def check_file_labels(
    path: Path, labels: NDArray[Any], count: int, num_classes: int
) -> NDArray[np.int64]:
    """Labels of a file as int64, if there is one per image and all lie in 0, ..., K-1.

    Raises:
        DataFileError: another number of labels, or one out of range; names its position.
    """
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataFileError(
            f"{path} holds labels of shape {labels.shape} and type {labels.dtype} for {count} "
            "images; expected one integer per image: the files do not belong together or are "
            "damaged, fetch them again"
        )
    labels = labels.astype(np.int64)
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise DataFileError(
            f"{path}: label {int(outside[0])} of {count} is {labels[outside[0]]}, outside the "
            f"classes 0..{num_classes - 1}; the file is damaged or belongs to another set, fetch "
            "it again"
        )
    return labels
