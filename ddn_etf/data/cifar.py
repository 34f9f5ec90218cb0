"""CIFAR-10 and CIFAR-100: pickled batches, read without trusting them.

A batch is a pickled dict with ``data``, (N, 3072) unsigned bytes, red before green before blue and
each row by row, and ``labels`` (CIFAR-10) or ``fine_labels`` and ``coarse_labels`` (CIFAR-100).

Unpickling may run any code that the file names, and NumPy, which the files name, can be made to crash
by an array that is damaged. Here a file may name nothing but the parts of an array, and gets stand-ins
for them that keep what they are given; the array is made from that when all is checked.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddn_etf.data.dataset import Dataset
from ddn_etf.data.downloads import how_to_download
from ddn_etf.data.files import DataFileError, check_file_labels, find_file, read_bytes
from ddn_etf.data.images import image_dataset
from ddn_etf.hierarchy.known import cifar100_superclasses

__all__ = ["cifar10", "cifar100", "read_pickled_batch"]

_FOREIGN_INSTRUCTIONS = {"BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "NEWOBJ", "OBJ", "PERSID"}


def cifar10(root: Path) -> Dataset:
    """50 000 train and 10 000 test images of 32 x 32 pixels in colour, 10 classes.

    Args:
        root: the folder that holds ``cifar-10-batches-py``, or that folder itself.

    Returns:
        Inputs (N, 3, 32, 32), float32, standardised on the train split.

    Raises:
        DataFileError: a file is missing, truncated or damaged, or holds more than numbers and text.

    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
    """
    train = [f"data_batch_{number}" for number in range(1, 6)]
    return _read("cifar-10", root, "cifar-10-batches-py", (train, ["test_batch"]), "labels", 10)


def cifar100(root: Path, *, superclasses: bool = False) -> Dataset:
    """50 000 train and 10 000 test images of 32 x 32 pixels in colour, 100 classes.

    Args:
        root: the folder that holds ``cifar-100-python``, or that folder itself.
        superclasses: take the 20 coarse labels in place of the 100 fine ones.

    Returns:
        Inputs (N, 3, 32, 32), float32, standardised on the train split. With the fine labels the
        hierarchy is :func:`ddn_etf.hierarchy.cifar100_superclasses`; the coarse ones have none.

    Raises:
        DataFileError: a file is missing, truncated or damaged, or holds more than numbers and text.

    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
    """
    key, num_classes = ("coarse_labels", 20) if superclasses else ("fine_labels", 100)
    name = "cifar-100-superclasses" if superclasses else "cifar-100"
    dataset = _read(name, root, "cifar-100-python", (["train"], ["test"]), key, num_classes)
    return dataset if superclasses else replace(dataset, hierarchy=cifar100_superclasses())


def read_pickled_batch(path: Path) -> dict[str, Any]:
    """The dict in a batch file, keys as text and arrays of unsigned bytes as such.

    Raises:
        DataFileError: the file is truncated or damaged, names anything that is not part of an array
            of numbers (nothing of it is run), or is no dict.
    """
    content = read_bytes(path)
    try:
        _check_instructions(path, content)
        batch = _ArrayUnpickler(path, io.BytesIO(content), encoding="bytes").load()
    except DataFileError:
        raise
    except Exception as error:  # a damaged pickle can end in any exception
        raise DataFileError(
            f"{path} cannot be unpickled ({type(error).__name__}: {error}); it is truncated or "
            "damaged: delete it and fetch it again"
        ) from error
    if not isinstance(batch, dict):
        raise DataFileError(f"{path} holds a {type(batch).__name__}; a batch of CIFAR is a dict")
    return {
        key.decode("ascii", "replace") if isinstance(key, bytes) else str(key): (
            value.array() if isinstance(value, _Part) else value
        )
        for key, value in batch.items()
    }


def _check_instructions(path: Path, content: bytes) -> None:
    """Refuse what no file of Python 2 holds, and numbers of memo cells that would fill the memory."""
    for instruction, argument, _ in pickletools.genops(content):
        memo = instruction.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if (
            instruction.proto > 2
            or instruction.name in _FOREIGN_INSTRUCTIONS
            or (memo and argument is not None and int(argument) > len(content))
        ):
            raise DataFileError(
                f"{path} holds the pickle instruction {instruction.name}({argument}), which no batch "
                "of CIFAR does; it was not loaded. Fetch the original file"
            )


class _Part:
    """Stands for an array, a dtype, or the function that makes an empty array."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments: tuple[Any, ...] = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8] | None:
        """The array of unsigned bytes it stands for, None if it stands for anything else."""
        match self.state:
            case (
                int(),
                tuple(shape),
                _Part(arguments=(b"u1" | "u1", *_)),
                False | 0,
                bytes(content),
            ):
                sizes = [size for size in shape if isinstance(size, int) and size >= 0]
                if len(sizes) == len(shape) and math.prod(sizes) == len(content):
                    return np.frombuffer(content, np.uint8).reshape(sizes)
        return None


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the names in a pickled NumPy array, under their old and new homes, and no others."""

    def __init__(self, path: Path, file: io.BytesIO, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): _Part,
            ("numpy", "dtype"): _Part,
            ("numpy.core.multiarray", "_reconstruct"): _Part,
            ("numpy._core.multiarray", "_reconstruct"): _Part,
            # Python 3 writes bytes in the protocol of Python 2 as text to be encoded in latin1.
            ("_codecs", "encode"): _encode_latin1,
        }
        try:
            return known[module, name]
        except KeyError:
            raise DataFileError(
                f"{self.path} asks for {module}.{name}, which no batch of CIFAR does; it was not "
                "loaded: it may run foreign code. Fetch the original file"
            ) from None


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes encoded in {encoding}, where pickle writes latin1")
    return text.encode("latin1")


def _read(
    name: str,
    root: Path,
    folder: str,
    files: tuple[Sequence[str], Sequence[str]],
    key: str,
    num_classes: int,
) -> Dataset:
    remedy = how_to_download("cifar-10" if num_classes == 10 else "cifar-100")

    def batch(file: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        path = find_file(name, file, root, [folder], remedy)
        content = read_pickled_batch(path)
        missing = {"data", key} - content.keys()
        if missing:
            raise DataFileError(
                f"{path} holds {', '.join(sorted(content))} but not "
                f"{', '.join(sorted(missing))}; is it a file of {name}?"
            )
        pixels, labels = content["data"], content[key]
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3072:
            found = pixels.shape if isinstance(pixels, np.ndarray) else "something else"
            raise DataFileError(
                f"{path}: data must be unsigned bytes of shape (N, 3072), found {found}; the file "
                "is damaged or no original: fetch it again"
            )
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise DataFileError(
                f"{path}: {key} must be a list with one integer per image; the file is damaged or "
                "no original: fetch it again"
            )
        labels = check_file_labels(path, np.asarray(labels), len(pixels), num_classes)
        return pixels.reshape(-1, 3, 32, 32), labels

    def split(names: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        pixels, labels = zip(*map(batch, names), strict=True)
        return np.concatenate(pixels), np.concatenate(labels)

    return image_dataset(name, num_classes, split(files[0]), split(files[1]))
