"""Data sets: real images as tensors, split once, in a fixed order.

A :class:`Dataset` is plain tensors and says nothing about batches or shuffling; the order of the
samples in training is decided in :mod:`ddn_etf.training`. A new set is one more function that
returns a :class:`Dataset`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf._extras import optional_import
from ddn_etf.errors import LabelError

__all__ = ["Dataset", "digits"]


@dataclass(frozen=True, eq=False)
class Dataset:
    r"""A classification set split into train and test.

    Attributes:
        name: what the reports call it.
        num_classes: K; labels are 0, ..., K-1.
        train_inputs: (N, \*input_shape), floating point.
        train_labels: (N,), int64.
        test_inputs: (M, \*input_shape).
        test_labels: (M,), int64.

    Raises:
        ShapeError: inputs and labels of a split differ in length, or the splits in input shape.
        LabelError: a split is empty, or a label lies outside 0, ..., K-1.
    """

    name: str
    num_classes: int
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor

    def __post_init__(self) -> None:
        splits = {
            "train": (self.train_inputs, self.train_labels),
            "test": (self.test_inputs, self.test_labels),
        }
        for split, (inputs, labels) in splits.items():
            if len(inputs) != len(labels):
                raise ShapeError(
                    f"{self.name}: the {split} split has {len(inputs)} inputs but {len(labels)} "
                    "labels; give one label per input"
                )
            if len(labels) == 0:
                raise LabelError(f"{self.name}: the {split} split is empty")
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise LabelError(
                    f"{self.name}: {split} labels run from {low} to {high}; with num_classes = "
                    f"{self.num_classes} they must lie in 0, ..., {self.num_classes - 1}"
                )
        if self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            raise ShapeError(
                f"{self.name}: train inputs have shape {tuple(self.train_inputs.shape[1:])}, test "
                f"inputs {tuple(self.test_inputs.shape[1:])}; both splits need the same shape"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, for example (1, 8, 8): channels, height, width."""
        return tuple(self.train_inputs.shape[1:])


def digits(*, test_size: int = 450) -> Dataset:
    """scikit-learn's bundled handwritten digits: 1797 real images of 8 x 8 pixels, 10 classes.

    The split is random, stratified by class and the same in every call: it does not depend on the
    seed of a training run, so runs with different seeds are tested on the same images. Pixels are
    standardised with the mean and standard deviation of all *training* pixels.

    Args:
        test_size: number of test images; the default leaves 1347 for training.

    Returns:
        Inputs (N, 1, 8, 8) in float32. Nothing is downloaded.

    Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
    Learning Repository, 1998 (the part that scikit-learn's ``load_digits`` carries).
    """
    with optional_import("train", "The data set of handwritten digits"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    train_pixels, test_pixels, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=test_size, stratify=labels, random_state=0
    )
    mean, standard_deviation = train_pixels.mean(), train_pixels.std()

    def images(flat: Any) -> Tensor:
        standardised: Tensor = (torch.as_tensor(flat) - mean) / standard_deviation
        return standardised.to(torch.float32).reshape(-1, 1, 8, 8)

    return Dataset(
        name="digits",
        num_classes=10,
        train_inputs=images(train_pixels),
        train_labels=torch.as_tensor(train_labels, dtype=torch.int64),
        test_inputs=images(test_pixels),
        test_labels=torch.as_tensor(test_labels, dtype=torch.int64),
    )
