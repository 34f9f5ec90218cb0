"""From pixels to inputs: each channel standardised with numbers of the train split alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.data.dataset import Dataset

__all__ = ["ChannelStatistics", "image_dataset"]


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Attributes:
        mean: one number per channel.
        standard_deviation: one number per channel, of the whole population; at least 0.

    Raises:
        ValueError: not one mean and one deviation per channel, finite, and no deviation below 0.
    """

    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        mean, deviation = (
            np.asarray(each, dtype=np.float64) for each in (self.mean, self.standard_deviation)
        )
        if mean.ndim != 1 or mean.shape != deviation.shape:
            raise ValueError(
                f"{mean.shape} means and {deviation.shape} deviations; give one number per channel"
            )
        if not (
            np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation >= 0).all()
        ):
            raise ValueError(
                f"means must be finite and deviations finite and at least 0, found {self.mean} and "
                f"{self.standard_deviation}"
            )

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> ChannelStatistics:
        """Exact to rounding, whatever the number of images: from how often each value occurs.

        Args:
            pixels: (N, C, H, W), uint8, N >= 1.

        Raises:
            ShapeError: not (N, C, H, W), no image, or an image without pixels.
            DtypeError: not uint8.
        """
        _check_pixels("pixels", pixels)
        if pixels.size == 0:
            raise ShapeError(f"pixels of shape {pixels.shape} have no mean")
        levels = np.arange(256) / 255
        means, deviations = [], []
        for channel in range(pixels.shape[1]):
            counts = sum(
                np.bincount(part[:, channel].ravel(), minlength=256)
                for part in np.array_split(pixels, max(1, len(pixels) // 4096))
            )
            share = counts / np.sum(counts)
            mean = float(share @ levels)
            means.append(mean)
            deviations.append(float(np.sqrt(share @ (levels - mean) ** 2)))
        return cls(tuple(means), tuple(deviations))

    def standardize(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(x/255 - mean) / standard deviation, in float32; a constant channel becomes zero.

        Args:
            pixels: (N, C, H, W), uint8.

        Returns:
            (N, C, H, W), float32.

        Raises:
            ShapeError: not (N, C, H, W), or not one mean per channel.
            DtypeError: not uint8.
        """
        _check_pixels("pixels", pixels)
        if pixels.shape[1] != len(self.mean):
            raise ShapeError(
                f"pixels have {pixels.shape[1]} channels and the statistics {len(self.mean)}"
            )
        # A table of the 256 values of each channel: rounded once, and no copy in float64.
        inputs = torch.empty(pixels.shape, dtype=torch.float32, device="cpu")
        for channel, (mean, deviation) in enumerate(
            zip(self.mean, self.standard_deviation, strict=True)
        ):
            table = (np.arange(256) / 255 - mean) / (deviation or 1.0)
            inputs[:, channel] = torch.from_numpy(table.astype(np.float32)[pixels[:, channel]])
        return inputs


def image_dataset(
    name: str,
    num_classes: int,
    train: tuple[NDArray[np.uint8], NDArray[Any]],
    test: tuple[NDArray[np.uint8], NDArray[Any]],
) -> Dataset:
    """A :class:`Dataset` of standardised images.

    Args:
        name: of the set.
        num_classes: K.
        train: pixels (N, C, H, W) in 0..255 and labels (N,) in 0..K-1.
        test: the same.

    Raises:
        TypeError: no pairs.
        DtypeError: pixels that are not uint8, or labels that are not integers.
        ShapeError: pixels not (N, C, H, W), or the splits differ in the shape of an image.
        LabelError: a split is empty, or a label is out of range.
    """
    for split, pair in (("train", train), ("test", test)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{name}: {split} must be a pair (pixels, labels)")
        pixels, labels = pair
        _check_pixels(f"{name}: the {split} pixels", pixels)
        if np.asarray(labels).dtype.kind not in "iu" and len(labels):
            raise DtypeError(
                f"{name}: the {split} labels must be integers, found {np.asarray(labels).dtype}"
            )
    if train[0].shape[1] != test[0].shape[1]:
        raise ShapeError(
            f"{name}: train images have {train[0].shape[1]} channels, test images "
            f"{test[0].shape[1]}; both splits need the same"
        )
    statistics = (
        ChannelStatistics.of(train[0])
        if len(train[0])
        else ChannelStatistics((0.0,) * train[0].shape[1], (1.0,) * train[0].shape[1])
    )
    (train_inputs, train_labels), (test_inputs, test_labels) = (
        (
            statistics.standardize(pixels),
            torch.as_tensor(labels, dtype=torch.int64, device="cpu"),
        )
        for pixels, labels in (train, test)
    )
    return Dataset(name, num_classes, train_inputs, train_labels, test_inputs, test_labels)


def _check_pixels(name: str, pixels: NDArray[np.uint8]) -> None:
    found = f"{name} must be uint8 of shape (N, C, H, W), found"
    if not isinstance(pixels, np.ndarray):
        raise DtypeError(f"{found} {type(pixels).__name__}; an array of NumPy is needed")
    if pixels.dtype != np.uint8:
        raise DtypeError(f"{found} {pixels.dtype} {pixels.shape}; scale to 0..255 and round")
    if pixels.ndim != 4:
        raise ShapeError(f"{found} {pixels.dtype} {pixels.shape}")
