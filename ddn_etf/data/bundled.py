"""The handwritten digits that scikit-learn carries: real images that need no download."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddn_etf._extras import optional_import
from ddn_etf.data.dataset import Dataset
from ddn_etf.hierarchy.known import digit_shapes

__all__ = ["digits"]


def digits(*, test_size: int = 450) -> Dataset:
    """scikit-learn's bundled handwritten digits: 1797 real images of 8 x 8 pixels, 10 classes.

    The split is random, stratified by class and the same in every call: it does not depend on the
    seed of a training run, so runs with different seeds are tested on the same images. Pixels are
    standardised with the mean and standard deviation of all *training* pixels.

    Args:
        test_size: number of test images; the default leaves 1347 for training.

    Returns:
        Inputs (N, 1, 8, 8) in float32. Nothing is downloaded. The hierarchy is
        :func:`ddn_etf.hierarchy.digit_shapes`: digits by shape, a choice of this library that is no
        part of the data set.

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
        hierarchy=digit_shapes(),
    )
