"""From pixels to inputs: each channel standardised with numbers of the train split alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.data.dataset import Dataset

__all__ = ["ChannelStatistics", "image_dataset"]


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Attributes:
        mean: one number per channel.
        standard_deviation: one number per channel, of the whole population.
    """

    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> ChannelStatistics:
        """Exact to rounding, whatever the number of images: from how often each value occurs.

        Args:
            pixels: (N, C, H, W), uint8, N >= 1.
        """
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
        """
        # A table of the 256 values of each channel: rounded once, and no copy in float64.
        inputs = torch.empty(pixels.shape, dtype=torch.float32)
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
        ShapeError: pixels not (N, C, H, W), or the splits differ in the shape of an image.
        LabelError: a split is empty, or a label is out of range.
    """
    for split, (pixels, _) in (("train", train), ("test", test)):
        if pixels.ndim != 4 or pixels.dtype != np.uint8:
            raise ShapeError(
                f"{name}: the {split} pixels must be uint8 of shape (N, C, H, W), found "
                f"{pixels.dtype} {pixels.shape}"
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
        (statistics.standardize(pixels), torch.as_tensor(labels, dtype=torch.int64))
        for pixels, labels in (train, test)
    )
    return Dataset(name, num_classes, train_inputs, train_labels, test_inputs, test_labels)
