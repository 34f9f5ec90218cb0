"""What a loss is: a function of a head's output and the labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.errors import FeatureError, LabelError
from ddn_etf.heads.base import HeadOutput
from ddn_etf.validation import check_floating, check_instance, check_labels

__all__ = ["CheckedLoss", "Loss", "check_constant", "check_loss", "check_output"]


class Loss(Protocol):
    """loss(output, labels): one number to minimise, from the output of a head.

    Any function with these arguments is one; what training needs is only that it can be called.
    """

    def __call__(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            output: h (N, d), weight (K, d), bias (K,) and logits (N, K) of a head.
            labels: y, (N,) integers in 0..K-1.

        Returns:
            () floating point, with its gradient.
        """
        ...


@dataclass(frozen=True, eq=False)
class CheckedLoss(ABC):
    """A loss that checks the batch first and computes in float32 or wider.

    A subclass states its formula in :meth:`value`. Whatever the precision of the network and
    whether or not autocast is on, :meth:`value` gets float32 or float64 tensors and the result is
    of that dtype.

    Args:
        validate: look for NaN, infinity and labels out of range in every batch. This makes the
            host wait for the device once per batch. Without it a label out of range is an error
            of PyTorch at best.

    Raises:
        TypeError: when called, the output is none of a head.
        FeatureError: when called, logits that hold NaN or infinity, or an empty batch.
        LabelError: when called, a label out of range.
        ShapeError, DtypeError: when called, logits or labels of the wrong shape or dtype.
    """

    _: KW_ONLY
    validate: bool = True

    def __call__(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The loss of one batch; see :class:`Loss`."""
        labels = check_output(output, labels, values=self.validate)
        with torch.autocast(output.logits.device.type, enabled=False):
            return self.value(_widen(output), labels)

    @abstractmethod
    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula.

        Args:
            output: in float32 or float64, checked.
            labels: (N,) int64, checked; N >= 1.

        Returns:
            ().
        """


def check_output(output: HeadOutput, labels: Tensor, *, values: bool) -> Tensor:
    """Check that logits (N, K) and labels (N,) belong together.

    Args:
        output: of a head.
        labels: (N,) integers in 0..K-1.
        values: look at the values too, with one transfer from the device.

    Returns:
        The labels as int64.

    Raises:
        FeatureError: the batch is empty or, with ``values``, logits hold NaN or infinity; names
            the first such row.
        LabelError: with ``values``, a label out of range; names the first such row.
        TypeError: the output is none of a head.
        ShapeError: not (N, K), not one label per row, or h, W and b that do not go with the logits.
        DtypeError: logits not floating point or labels not integers, or on different devices.
    """
    if not isinstance(output, HeadOutput):
        raise TypeError(
            "a loss takes the output of a head, head.outputs(features, labels), and labels; found "
            f"{type(output).__name__} in place of the output"
        )
    logits = output.logits
    check_floating("logits", logits)
    if logits.ndim != 2:
        raise ShapeError(
            f"logits must have shape (N, K), one row per sample, found {tuple(logits.shape)}"
        )
    N, K = logits.shape
    check_floating("h", output.h)
    d = output.h.shape[-1] if output.h.ndim else 1
    for name, part, shape in (
        ("h", output.h, (N, d)),
        ("weight", output.weight, (K, d)),
        ("bias", output.bias, (K,)),
    ):
        check_floating(name, part)
        if part.shape != shape:
            raise ShapeError(
                f"{name} has shape {tuple(part.shape)}, and logits {(N, K)} with features of length "
                f"{d} need {shape}"
            )
    labels = check_labels(labels, logits)
    if not values:
        return labels
    num_classes = logits.shape[1]
    bad_row = logits.detach().isfinite().all(dim=1).logical_not()
    bad_label = (labels < 0) | (labels >= num_classes)
    # argmax of a mask is its first True; beside it, whether there is one.
    found = torch.stack(
        [torch.where(bad.any(), bad.int().argmax(), -1) for bad in (bad_label, bad_row)]
    )
    label, row = found.tolist()
    if label >= 0:
        raise LabelError(
            f"labels[{label}] is {labels[label].item()}, outside 0..{num_classes - 1}; give the "
            "classes consecutive numbers from 0, or build the head with more classes"
        )
    if row >= 0:
        raise FeatureError(
            f"logits hold NaN or infinity, first in row {row}; look at that sample and at the "
            "features the head was given (a learning rate that is too large is the usual cause)"
        )
    return labels


def check_loss(name: str, loss: object) -> None:
    """Check that a loss is one that can be called, and not a class of losses.

    Raises:
        TypeError: it is a class, or cannot be called.
    """
    check_instance(name, loss, "a loss")


def check_constant(name: str, value: Tensor, shape: str, *, ndim: int, finite: bool = True) -> None:
    """Check a tensor that a loss keeps.

    Args:
        name: of the argument.
        value: the tensor.
        shape: that it should have, for the message.
        ndim: the number of its dimensions.
        finite: look for NaN and infinity.

    Raises:
        DtypeError: not a floating-point tensor.
        ShapeError: another number of dimensions.
        FeatureError: NaN or infinity.
    """
    check_floating(name, value)
    if value.ndim != ndim:
        raise ShapeError(f"{name} must have shape {shape}, found {tuple(value.shape)}")
    if finite and not value.is_meta and not torch.isfinite(value).all():
        raise FeatureError(f"{name} holds NaN or infinity")


def _widen(output: HeadOutput) -> HeadOutput:
    parts = (output.h, output.weight, output.bias, output.logits)
    return HeadOutput(*(part.to(torch.promote_types(part.dtype, torch.float32)) for part in parts))
