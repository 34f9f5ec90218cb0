"""Losses that are meant for a classifier that training does not change."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ddn_etf.heads.base import HeadOutput

__all__ = ["LearnedClassifierWarning", "is_learned", "warn_if_learned"]


class LearnedClassifierWarning(UserWarning):
    """A loss that is defined for a given frame trains a classifier that is learned."""


def is_learned(weight: Tensor) -> bool:
    """Whether an optimiser can change a weight: it is a parameter, or one in another dtype.

    The weight of a nearest frame has a gradient too, but it passes on to the features.

    Args:
        weight: W of a head's output.
    """
    if not weight.requires_grad:
        return False
    if weight.is_leaf:
        return True
    # Of a conversion, and of nothing else, the graph has only the parameter behind it.
    node = weight.grad_fn
    while node is not None and node.name() == "ToCopyBackward0":
        node = node.next_functions[0][0]
    return node is not None and node.name().endswith("AccumulateGrad")


def warn_if_learned(output: HeadOutput, fact: str, otherwise: str = "") -> None:
    """Warn of a learned classifier, where a gradient is taken.

    Python shows a warning of one text once for each place in the source.

    Args:
        output: of a head, as the loss has got it.
        fact: what the loss does with a learned classifier.
        otherwise: a remedy besides a head with a frame.
    """
    if torch.is_grad_enabled() and is_learned(output.weight):
        warnings.warn(
            f"{fact}: train with a head that has a frame, such as FixedETFHead or NearestETFHead"
            f"{',' if otherwise else ''}{otherwise}",
            LearnedClassifierWarning,
            stacklevel=2,
        )
