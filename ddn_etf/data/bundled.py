"""The handwritten digits that scikit-learn carries: real images that need no download."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddn_etf._extras import optional_import
from ddn_etf.data._naming import with_changes
from ddn_etf.data.dataset import Dataset
from ddn_etf.hierarchy.known import digit_shapes
from ddn_etf.validation import check_count

__all__ = ["digits"]


def digits(*, test_size: int = 450) -> Dataset:
    """scikit-learn's bundled handwritten digits: 1797 real images of 8 x 8 pixels, 10 classes.

    The split is random, stratified by class and the same in every call: it does not depend on the
    seed of a training run, so runs with different seeds are tested on the same images. Pixels are
    standardised with the mean and standard deviation of all *training* pixels.

    Args:
        test_size: number of test images, 10 to 1787; the default leaves 1347 for training. Other
            splits have the number in their name: ``"digits, test size 300"``.

    Returns:
        Inputs (N, 1, 8, 8) in float32. Nothing is downloaded. The hierarchy is
        :func:`ddn_etf.hierarchy.digit_shapes`: digits by shape, a choice of this library that is no
        part of the data set.

    Raises:
        TypeError: the number is not an integer.
        ValueError: not one image of each digit in both splits.
        MissingDependencyError: scikit-learn is missing.

    Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
    Learning Repository, 1998 (the part that scikit-learn's ``load_digits`` carries).
    """
    with optional_import("train", "The data set of handwritten digits"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    check_count("test_size", test_size, 10)
    pixels, labels = load_digits(return_X_y=True)
    if test_size > len(labels) - 10:
        raise ValueError(
            f"test_size must be at most {len(labels) - 10} of the {len(labels)} images, which "
            f"leaves one of each digit for training; found {test_size}"
        )
    train_pixels, test_pixels, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=test_size, stratify=labels, random_state=0
    )
    mean, standard_deviation = train_pixels.mean(), train_pixels.std()

    def images(flat: Any) -> Tensor:
        standardised: Tensor = (torch.from_numpy(flat) - mean) / standard_deviation
        return standardised.to(torch.float32).reshape(-1, 1, 8, 8)

    return Dataset(
        name=with_changes("digits", test_size=(test_size, 450)),
        num_classes=10,
        train_inputs=images(train_pixels),
        train_labels=torch.from_numpy(train_labels).long(),
        test_inputs=images(test_pixels),
        test_labels=torch.from_numpy(test_labels).long(),
        hierarchy=digit_shapes(),
    )
