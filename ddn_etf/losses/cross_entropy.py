"""Cross entropy, the loss of softmax classification."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ddn.errors import ShapeError
from ddn_etf.heads.base import HeadOutput
from ddn_etf.losses.base import CheckedLoss, check_constant
from ddn_etf.validation import check_real

__all__ = ["CrossEntropy", "check_class_weights"]


@dataclass(frozen=True, eq=False)
class CrossEntropy(CheckedLoss):
    r"""-Σ_i a_{y_i} log softmax(z_i/T)_{y_i} / Σ_i a_{y_i}, with z the logits.

    Args:
        temperature: T > 0 divides the logits, as in Hinton, Vinyals and Dean (2015): a *larger* T
            makes softer probabilities. The temperature τ of a head is the length of its features
            and *multiplies* the logits.
        class_weights: a, (K,), positive, or None for equal weights.
        validate: see :class:`~ddn_etf.losses.CheckedLoss`.

    Raises:
        TypeError: a temperature that is not a number.
        DtypeError: class weights that are no floating-point tensor.
        ValueError: a temperature or class weight that is not a positive number.
        ShapeError: when called, not one weight per class.
    """

    temperature: float = 1.0
    class_weights: Tensor | None = None

    def __post_init__(self) -> None:
        check_real("temperature", self.temperature)
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be a positive number, found {self.temperature}: the logits are "
                "divided by it"
            )
        check_class_weights(self.class_weights)

    def value(self, output: HeadOutput, labels: Tensor) -> Tensor:
        """The formula above."""
        logits = output.logits
        weights = None
        if self.class_weights is not None:
            if len(self.class_weights) != logits.shape[1]:
                raise ShapeError(
                    f"{len(self.class_weights)} class weights for {logits.shape[1]} classes; give "
                    "one weight per class"
                )
            weights = self.class_weights.detach().to(logits)
        return cross_entropy(logits / self.temperature, labels, weights)


def check_class_weights(weights: Tensor | None) -> None:
    """Check that class weights are a vector of positive numbers, or None.

    Zero is left out on purpose: the weighted mean of a batch whose classes all have weight zero is
    not defined.

    Raises:
        DtypeError: not a floating-point tensor.
        ShapeError: not a vector.
        ValueError: a weight that is not a positive number; names its class.
    """
    if weights is None:
        return
    check_constant("class_weights", weights, "(K,)", ndim=1, finite=False)
    good = (torch.isfinite(weights) & (weights > 0)).tolist()
    if not all(good):
        k = good.index(False)
        raise ValueError(
            f"class_weights[{k}] is {weights[k].item()}; weights must be positive numbers (leave "
            "the samples of a class out of the data instead of giving it weight zero)"
        )
