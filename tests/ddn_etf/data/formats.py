"""Small data sets written in the formats of the published ones, with what a reader must find."""

from __future__ import annotations

import gzip
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.io
from PIL import Image


@dataclass(frozen=True)
class Split:
    """Pixels (N, C, H, W), uint8, and labels (N,) as the reader must give them."""

    pixels: np.ndarray
    labels: np.ndarray


def random_split(count: int, channels: int, side: int, classes: int, seed: int) -> Split:
    """Every class in turn; the pixels of each image differ everywhere from a transposed one."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    return Split(pixels, np.arange(count) % classes)


def write_idx(path: Path, array: np.ndarray, *, compressed: bool = False) -> None:
    """As Y. LeCun describes the format, independently of the reader."""
    content = bytes([0, 0, 8, array.ndim])
    content += b"".join(struct.pack(">I", length) for length in array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if compressed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_mnist(folder: Path, *, compressed: bool = False) -> dict[str, Split]:
    """The four files of MNIST or Fashion-MNIST."""
    splits = {"train": random_split(30, 1, 28, 10, 0), "t10k": random_split(20, 1, 28, 10, 1)}
    for prefix, split in splits.items():
        for part, array in (
            ("images-idx3-ubyte", split.pixels[:, 0]),
            ("labels-idx1-ubyte", split.labels.astype(np.uint8)),
        ):
            write_idx(folder / f"{prefix}-{part}", array, compressed=compressed)
    return {"train": splits["train"], "test": splits["t10k"]}


class Python2Pickler(pickle._Pickler):
    """Writes what cPickle of Python 2 wrote: byte strings as such, NumPy under its old name."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        if len(value) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(value)]) + value)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def save_global(self, value: object, name: str | None = None) -> None:
        if getattr(value, "__name__", "") == "_reconstruct":
            self.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n")
            self.memoize(value)
        else:
            super().save_global(value, name)

    dispatch[type(lambda: None)] = save_global
    dispatch[type(len)] = save_global


def write_pickle(path: Path, value: object, *, python2: bool = True) -> None:
    """A pickle of protocol 2, from Python 2 (as published) or 3 (as rewritten by others)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        (Python2Pickler if python2 else pickle.Pickler)(file, protocol=2).dump(value)


def cifar_batch(split: Split, extra: dict[bytes, list[int]]) -> dict[bytes, object]:
    """What is in one file."""
    return {
        b"batch_label": b"training batch 1 of 5",
        b"data": split.pixels.reshape(len(split.labels), -1),
        b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"] * len(split.labels),
    } | extra


def write_cifar10(folder: Path, *, python2: bool = True) -> dict[str, Split]:
    """The six files of CIFAR-10."""
    parts = [random_split(10, 3, 32, 10, seed) for seed in range(6)]
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for name, part in zip(names, parts, strict=True):
        batch = cifar_batch(part, {b"labels": part.labels.tolist()})
        write_pickle(folder / name, batch, python2=python2)
    train = Split(
        np.concatenate([part.pixels for part in parts[:5]]),
        np.concatenate([part.labels for part in parts[:5]]),
    )
    return {"train": train, "test": parts[5]}


def write_cifar100(folder: Path) -> dict[str, Split]:
    """The two files of CIFAR-100; the coarse label is the fine one over 5."""
    splits = {"train": random_split(200, 3, 32, 100, 0), "test": random_split(100, 3, 32, 100, 1)}
    for name, split in splits.items():
        labels = {
            b"fine_labels": split.labels.tolist(),
            b"coarse_labels": (split.labels // 5).tolist(),
        }
        write_pickle(folder / name, cifar_batch(split, labels))
    return splits


def write_svhn(folder: Path) -> dict[str, Split]:
    """The two files of cropped digits, where 10 stands for the digit 0."""
    splits = {"train": random_split(30, 3, 32, 10, 0), "test": random_split(20, 3, 32, 10, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        labels = np.where(split.labels == 0, 10, split.labels).astype(np.uint8)[:, None]
        content = {"X": split.pixels.transpose(2, 3, 1, 0), "y": labels}
        scipy.io.savemat(folder / f"{name}_32x32.mat", content, do_compression=True)
    return splits


def write_stl10(folder: Path) -> dict[str, Split]:
    """The four files with labels; images lie column by column, labels run from 1."""
    splits = {"train": random_split(10, 3, 96, 10, 0), "test": random_split(10, 3, 96, 10, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        columns = np.stack([[plane.T for plane in image] for image in split.pixels])
        (folder / f"{name}_X.bin").write_bytes(columns.tobytes())
        (folder / f"{name}_y.bin").write_bytes((split.labels + 1).astype(np.uint8).tobytes())
    return splits


def write_image_folder(folder: Path, *, side: int = 12) -> dict[str, Split]:
    """``train`` and ``val`` with two classes, files in png, and a file that is no image."""
    splits = {"train": random_split(6, 3, side, 2, 0), "val": random_split(4, 3, side, 2, 1)}
    for name, split in splits.items():
        for number, (pixels, label) in enumerate(zip(split.pixels, split.labels, strict=True)):
            path = folder / name / ("n01440764", "n01443537")[label] / f"{number:03}.PNG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
        (folder / name / "n01440764" / "notes.txt").write_text("no image")
    # The reader goes class by class.
    return {
        "train": _by_class(splits["train"]),
        "test": _by_class(splits["val"]),
    }


def _by_class(split: Split) -> Split:
    order = np.argsort(split.labels, kind="stable")
    return Split(split.pixels[order], split.labels[order])
