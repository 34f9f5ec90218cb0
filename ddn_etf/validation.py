"""Checks of sizes, features and labels, shared by frames, heads and metrics.

Shapes and dtypes are known to the host and cost nothing to check. Values live on the device:
:func:`check_values` looks at all of them with a single transfer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import FeatureError, FrameSizeError, LabelError

__all__ = [
    "check_count",
    "check_counts",
    "check_features",
    "check_floating",
    "check_frame_size",
    "check_instance",
    "check_integer",
    "check_labels",
    "check_num_classes",
    "check_real",
    "check_values",
    "class_labels",
]


def check_integer(name: str, value: int) -> None:
    """Check a whole number of any size.

    Raises:
        TypeError: not an integer.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        # Integers of NumPy are none: they end up in configurations and state dicts.
        is_whole = isinstance(value, Integral | Tensor) and not isinstance(value, bool)
        convert = "; convert it with int()" if is_whole else ""
        raise TypeError(f"{name} must be an integer, found {value!r}{convert}")


def check_count(name: str, value: int, minimum: int) -> None:
    """Check a whole number.

    Raises:
        TypeError: not an integer.
        ValueError: below ``minimum``.
    """
    check_integer(name, value)
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, found {value}")


def check_real(name: str, value: float) -> None:
    """Check a number of any type and value, NaN and infinity included; the range is the caller's.

    Raises:
        TypeError: a bool, a text, a tensor or another thing that is no real number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        convert = "; convert it with .item()" if isinstance(value, Tensor | np.ndarray) else ""
        raise TypeError(f"{name} must be a number, found {value!r}{convert}")


def check_instance(name: str, value: object, needed: str) -> None:
    """Check that a class does not stand where an instance of it is needed.

    Args:
        name: of the argument.
        value: an instance, or a function.
        needed: what is needed, with its article, such as ``"a loss"``.

    Raises:
        TypeError: a class, or something that cannot be called.
    """
    if isinstance(value, type):
        raise TypeError(
            f"{name} must be {needed}, found the class {value.__name__}; make an instance of it: "
            f"{value.__name__}(...)"
        )
    if not callable(value):
        raise TypeError(f"{name} must be {needed}, which can be called; found {value!r}")


def check_counts(
    name: str, counts: Sequence[int] | NDArray[Any] | Tensor, minimum: int
) -> list[int]:
    """Numbers of samples, one per class, as integers.

    Args:
        name: of the argument.
        counts: (K,), K >= 1, of any real type.
        minimum: the smallest that is allowed.

    Raises:
        TypeError: not a sequence of numbers.
        LabelError: no class, NaN, a fraction, or a number below the minimum; names the class.
    """
    if isinstance(counts, Tensor | np.ndarray):
        counts = counts.tolist()
    if not isinstance(counts, Sequence) or isinstance(counts, str):
        raise TypeError(f"{name} must be a sequence of whole numbers, found {counts!r}")
    if len(counts) == 0:
        raise LabelError(f"{name} is empty: give the number of samples of each class")
    for k, count in enumerate(counts):
        if isinstance(count, Sequence) and not isinstance(count, str):
            raise LabelError(
                f"{name} must be one number per class, found {count!r} for class {k}; for labels, "
                "pass torch.bincount(labels, minlength=num_classes)"
            )
        check_real(f"{name}[{k}]", count)
        if not (math.isfinite(count) and count == int(count) and count >= minimum):
            what = f", class {k} has no samples" if count == 0 else ""
            raise LabelError(
                f"{name}[{k}] is {count}{what}: every class needs a whole number of samples, at "
                f"least {minimum}"
            )
    return [int(count) for count in counts]


def check_num_classes(num_classes: int) -> None:
    """Check that K is an integer of at least 2.

    Raises:
        TypeError: not an integer.
        FrameSizeError: fewer than two classes.
    """
    check_count("num_classes", num_classes, 0)
    if num_classes < 2:
        raise FrameSizeError(
            f"num_classes is {num_classes}: a simplex frame, and any comparison between classes, "
            "needs at least 2 classes"
        )


def check_frame_size(num_classes: int, dim: int) -> None:
    """Check that K >= 2 and d >= K - 1.

    Raises:
        TypeError: an argument is not an integer.
        FrameSizeError: no simplex frame exists for these sizes.
    """
    check_num_classes(num_classes)
    check_count("dim", dim, 0)
    if dim < num_classes - 1:
        raise FrameSizeError(
            f"dim is {dim} for {num_classes} classes: the {num_classes} vectors of a simplex frame "
            f"span {num_classes - 1} dimensions; use dim >= {num_classes - 1}"
        )


def check_floating(name: str, value: object) -> None:
    """Check that a value is a tensor of real floating-point numbers.

    Raises:
        DtypeError: it is not.
    """
    if not isinstance(value, Tensor):
        raise _not_a_tensor(name, value)
    if not value.is_floating_point():
        raise DtypeError(
            f"{name} must hold real floating-point numbers, found {value.dtype}; convert with "
            ".float()"
        )


def check_features(features: Tensor, dim: int | None = None) -> None:
    """Check that features are a floating-point tensor (N, d), without looking at its values.

    Raises:
        DtypeError: not a floating-point tensor.
        ShapeError: not a matrix, or not ``dim`` columns.
    """
    check_floating("features", features)
    if features.ndim != 2 or (dim is not None and features.shape[1] != dim):
        raise ShapeError(
            f"features must have shape (N, {'d' if dim is None else dim}), one row per sample, "
            f"found {tuple(features.shape)}"
        )


def check_labels(labels: Tensor, features: Tensor) -> Tensor:
    """Check that there is an integer label for every row, without looking at their values.

    Returns:
        The labels as int64.

    Raises:
        FeatureError: the batch is empty.
        DtypeError: the labels are not an integer tensor, or lie on another device.
        ShapeError: not one label per row.
    """
    labels = class_labels("labels", labels)
    if labels.shape != features.shape[:1]:
        raise ShapeError(
            f"labels must have shape ({features.shape[0]},), one class index per row of features, "
            f"found {tuple(labels.shape)}"
        )
    if labels.device != features.device:
        raise DtypeError(
            f"labels lie on {labels.device} and features on {features.device}; move one with "
            ".to(device)"
        )
    if features.shape[0] == 0:
        raise FeatureError(
            "the batch is empty: means need at least one sample; skip empty batches (with a "
            "DataLoader, drop_last=True does)"
        )
    return labels


def class_labels(name: str, labels: Tensor) -> Tensor:
    """Class indices of any integer type as int64, without looking at their shape and values.

    Raises:
        DtypeError: not a tensor of integers. Fractions are not cut off.
    """
    if not isinstance(labels, Tensor):
        raise _not_a_tensor(name, labels)
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise DtypeError(
            f"{name} must be integer class indices, found {labels.dtype}; convert them with .long()"
        )
    return labels.long()


def _not_a_tensor(name: str, value: object) -> DtypeError:
    convert = "; convert with torch.as_tensor()" if isinstance(value, np.ndarray | list) else ""
    return DtypeError(f"{name} must be a tensor, found {type(value).__name__}{convert}")


def check_values(features: Tensor, labels: Tensor, num_classes: int) -> None:
    """Check that features are finite and labels in 0..K-1, with one transfer from the device.

    Raises:
        FeatureError: NaN or infinity; names the first such row.
        LabelError: a label out of range; names the first such row.
    """
    # NaN and infinity do not leave a sum. A sum that is not finite may have overflowed, so that the
    # exact look follows.
    low, high = labels.aminmax()
    wide = torch.promote_types(features.dtype, torch.float32)
    numbers = (features.detach().sum(dtype=wide), low.to(wide), high.to(wide))
    total, lowest, highest = torch.stack(numbers).tolist()
    if math.isfinite(total) and lowest >= 0 and highest < num_classes:
        return
    finite = torch.isfinite(features).all(dim=1)
    known = (labels >= 0) & (labels < num_classes)
    bad_row, bad_label = torch.stack([_first_false(finite), _first_false(known)]).tolist()
    if bad_row >= 0:
        raise FeatureError(
            f"features hold NaN or infinity, first in row {bad_row}; look at that sample and at "
            "the layers before this one (a learning rate that is too large is the usual cause)"
        )
    if bad_label >= 0:
        raise LabelError(
            f"labels[{bad_label}] is {labels[bad_label].item()}, outside 0..{num_classes - 1}; "
            "give the classes consecutive numbers from 0, or raise num_classes"
        )


def _first_false(valid: Tensor) -> Tensor:
    """Index of the first False of a non-empty vector, -1 where all are True."""
    return torch.where(valid.all(), -1, valid.logical_not().int().argmax())
