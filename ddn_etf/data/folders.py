"""Folders of images, one folder per class, read when they are asked for: ImageNet and its like."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddn_etf._extras import optional_import
from ddn_etf.data._naming import with_changes
from ddn_etf.data.dataset import Dataset
from ddn_etf.data.files import DataFileError
from ddn_etf.data.images import ChannelStatistics
from ddn_etf.validation import check_count, check_real

__all__ = ["IMAGE_SUFFIXES", "ImageFiles", "ResizeAndCrop", "image_folder"]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as an image, in lower case; other files are passed over."""


@dataclass(frozen=True)
class ResizeAndCrop:
    """The shorter side to ``size``/``kept``, then the square in the middle: the usual test view.

    Args:
        size: height and width of the result in pixels.
        kept: the side of the square over the shorter side; 224/256 is customary.

    Raises:
        ValueError: a number is out of its range.
    """

    size: int = 224
    kept: float = 224 / 256

    def __post_init__(self) -> None:
        check_count("size", self.size, 1)
        check_real("kept", self.kept)
        if not 0 < self.kept <= 1:
            raise ValueError(f"kept must lie in (0, 1], found {self.kept}")

    def __call__(self, image: Any) -> Any:
        """A Pillow image to a Pillow image of ``size`` x ``size`` pixels."""
        from PIL.Image import Resampling

        # One resampling of the part that is kept: no pixel is computed that is not used.
        side = self.kept * min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        return image.resize(
            (self.size, self.size),
            resample=Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )


class ImageFiles:
    """Images in files, decoded when they are indexed; see :class:`ddn_etf.data.LazyInputs`.

    Pickles to its paths, so that the workers of a data loader can have it.

    Args:
        paths: one per image.
        size: height and width of what ``view`` returns.
        view: from a Pillow image in RGB to one of ``size`` x ``size`` pixels. It may draw random
            numbers from torch, which are seeded in each worker of a data loader.
        statistics: what the channels are standardised with.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        view: Callable[[Any], Any],
        statistics: ChannelStatistics,
    ) -> None:
        self.paths, self.size = tuple(paths), size
        self.view, self.statistics = view, statistics

    @property
    def shape(self) -> torch.Size:
        """(N, 3, size, size)."""
        return torch.Size((len(self.paths), 3, self.size, self.size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Tensor:
        """(3, size, size) for an integer, (n, 3, size, size) for a sequence of integers or a mask.

        Raises:
            TypeError: an index of another kind.
            IndexError: an index is out of range, or a mask of another length.
            DataFileError: a file cannot be decoded, or the view has another size.
        """
        chosen = self._positions(index)
        if isinstance(chosen, int):
            return self.statistics.standardize(self._pixels(self.paths[chosen])[None])[0]
        pixels = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)
        for row, position in enumerate(chosen):
            pixels[row] = self._pixels(self.paths[position])
        return self.statistics.standardize(pixels)

    def _positions(self, index: Any) -> int | list[int]:
        """An index as a tensor takes it, as positions from 0."""
        if isinstance(index, slice):
            return list(range(*index.indices(len(self))))
        array = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
        if array.dtype == bool and array.shape == (len(self),):
            return [int(position) for position in np.flatnonzero(array)]
        if array.ndim > 1 or (array.dtype.kind not in "iu" and array.size):
            raise TypeError(
                f"an image is chosen by an integer, a sequence of integers, a slice or a mask of "
                f"{len(self)} bools; found {index!r}"
            )
        outside = (array < -len(self)) | (array >= len(self))
        if outside.any():
            raise IndexError(
                f"index {array[outside].flat[0]} is out of range of {len(self)} images"
            )
        positions = array.astype(np.int64) % len(self)
        return int(positions) if array.ndim == 0 else [int(position) for position in positions]

    def select(self, indices: Sequence[int]) -> ImageFiles:
        """These images alone, still unread; indices as for reading them.

        Raises:
            TypeError: an index of another kind.
            IndexError: an index is out of range.
        """
        chosen = self._positions(indices)
        paths = [self.paths[i] for i in ([chosen] if isinstance(chosen, int) else chosen)]
        return ImageFiles(paths, self.size, self.view, self.statistics)

    def _pixels(self, path: Path) -> Any:
        pixels = np.asarray(self.view(_decode(path)), dtype=np.uint8)
        if pixels.shape != (self.size, self.size, 3):
            raise DataFileError(
                f"{path} became an array of shape {pixels.shape} by {self.view}; expected "
                f"({self.size}, {self.size}, 3)"
            )
        return pixels.transpose(2, 0, 1)


def image_folder(
    root: Path,
    *,
    size: int = 224,
    train_view: Callable[[Any], Any] | None = None,
    statistics: ChannelStatistics | None = None,
    sample: int = 2000,
) -> Dataset:
    """Images in ``train/CLASS/...`` and ``val/CLASS/...`` (or ``test``), such as ImageNet.

    Classes are numbered in the order of their names. Nothing is decoded before it is asked for, but
    for the images the channels' mean and standard deviation are taken from. Decoding is the slow
    part of training on such a set: give the data loader workers.

    Args:
        root: the folder with ``train`` and ``val`` or ``test`` in it.
        size: height and width of the inputs.
        train_view: from a Pillow image in RGB to one of ``size`` x ``size`` pixels, for
            augmentation; the middle of the image if not given.
        statistics: of the channels, if they are known.
        sample: how many train images to take them from otherwise, evenly spaced.

    Returns:
        Lazy inputs (N, 3, size, size), float32. The name of the set is that of the folder; with
        ``"size 64"``, say, for other sizes than 224.

    Raises:
        DataFileError: a folder is missing or holds no image, a test class is not a train class, or
            a file cannot be decoded.

    Source: for ImageNet, O. Russakovsky et al., *ImageNet Large Scale Visual Recognition
    Challenge*, 2015; its validation images must be sorted into folders of classes.
    """
    root = Path(root)
    check_count("sample", sample, 1)
    check_count("size", size, 1)
    train_folder = root / "train"
    test_folder = root / "val" if (root / "val").is_dir() else root / "test"
    for folder in (train_folder, test_folder):
        if not folder.is_dir():
            raise DataFileError(
                f"{root} has no folder {folder.name}: expected train and val (or test), each with "
                "one folder of images per class"
            )
    classes = _class_names(train_folder)
    train_paths, train_labels = _images(train_folder, classes)
    test_paths, test_labels = _images(test_folder, classes)
    middle = ResizeAndCrop(size)
    if statistics is None:
        chosen = np.linspace(0, len(train_paths) - 1, min(sample, len(train_paths))).astype(int)
        unscaled = ImageFiles(train_paths, size, middle, ChannelStatistics((0.0,) * 3, (1.0,) * 3))
        statistics = ChannelStatistics.of(
            np.stack([unscaled._pixels(train_paths[i]) for i in chosen])
        )
    return Dataset(
        with_changes(root.resolve().name, size=(size, 224)),
        len(classes),
        ImageFiles(train_paths, size, train_view or middle, statistics),
        torch.tensor(train_labels, device="cpu"),
        ImageFiles(test_paths, size, middle, statistics),
        torch.tensor(test_labels, device="cpu"),
    )


def _class_names(folder: Path) -> list[str]:
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise DataFileError(f"{folder} holds no folders: expected one per class")
    return classes


def _images(folder: Path, classes: list[str]) -> tuple[list[Path], list[int]]:
    """All images below a folder in the order of their paths, and the class of each."""
    unknown = sorted(set(_class_names(folder)) - set(classes))
    if unknown:
        raise DataFileError(
            f"{folder / unknown[0]} is no class of the train folder; the same classes, by name, "
            "belong into both"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = [
            Path(parent, file)
            for parent, _, files in os.walk(folder / name)
            for file in files
            if file.lower().endswith(IMAGE_SUFFIXES)
        ]
        paths += sorted(found)
        labels += [label] * len(found)
    if not paths:
        raise DataFileError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return paths, labels


def _decode(path: Path) -> Any:
    with optional_import("train", "Reading images from files"):
        from PIL import Image
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataFileError(
            f"{path} cannot be decoded as an image ({error}); replace the file, or move it out of "
            "the folder"
        ) from error
