"""What all heads share: features on a sphere, then logits = h Wᵀ + b."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ddn.errors import DtypeError
from ddn_etf.validation import check_count, check_features

__all__ = ["Head", "HeadOutput"]


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What a head makes of one batch; a loss takes what it needs of it.

    Attributes:
        h: (N, d), what the weight is multiplied with.
        weight: W (K, d), with its gradient where the head has one.
        bias: b (K,).
        logits: (N, K), h Wᵀ + b.
    """

    h: Tensor
    weight: Tensor
    bias: Tensor
    logits: Tensor


class Head(nn.Module):
    """A last layer with a weight W (K, d) and a bias b (K,), called with features and labels.

    ``head(features, labels)`` in training and ``head(features)`` in evaluation give
    logits = h Wᵀ + b with h = τ f/‖f‖, or h = f without a temperature. A subclass sets ``weight``
    and ``bias`` and, if they depend on the batch, overrides :meth:`classifier`.

    Defined results: a row of zeros has h = 0, with zero gradient. A row that holds NaN or infinity
    gets NaN logits; the other rows are not affected. Half-precision features are normalised in
    float32.

    Args:
        dim: d >= 1, number of features.
        num_classes: K >= 1.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size is below 1, or the temperature is not a positive number.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, num_classes: int, temperature: float | None) -> None:
        super().__init__()
        check_count("dim", dim, 1)
        check_count("num_classes", num_classes, 1)
        if temperature is not None and not 0 < temperature < math.inf:
            raise ValueError(
                f"temperature must be a positive number, the length of the features, found "
                f"{temperature}; pass None to leave the features as they are"
            )
        self.dim, self.num_classes, self.temperature = dim, num_classes, temperature

    def normalize(self, features: Tensor) -> Tensor:
        """What the weight is multiplied with: h = τ f/‖f‖ row by row, or f without a temperature.

        Args:
            features: (N, d), floating point, of the dtype of ``weight`` or narrower.

        Returns:
            (N, d), of the dtype of ``weight``.

        Raises:
            ShapeError: not (N, d).
            DtypeError: not floating point, or wider than ``weight``.
        """
        check_features(features, self.dim)
        dtype = self.weight.dtype
        if torch.promote_types(features.dtype, dtype) != dtype:
            raise DtypeError(
                f"features are {features.dtype} and the head is {dtype}: convert the head with "
                f".to({features.dtype}), or the features with .to({dtype})"
            )
        if self.temperature is None:
            return features.to(dtype)
        wide = features.to(torch.promote_types(dtype, torch.float32))
        return (self.temperature * _unit_rows(wide)).to(dtype)

    def classifier(self, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """The weight (K, d) and the bias (K,) for this batch.

        Args:
            h: (N, d), normalised features.
            labels: (N,) integers in 0..K-1, or None.
        """
        return self.weight, self.bias

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, K) = h Wᵀ + b.

        Args:
            features: (N, d), floating point, of the dtype of ``weight`` or narrower.
            labels: (N,) integers in 0..K-1. A head that does not learn from them ignores them.

        Raises:
            ShapeError: features not (N, d).
            DtypeError: features not floating point, or wider than ``weight``.
        """
        return self.outputs(features, labels).logits

    def outputs(self, features: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """Logits as :meth:`forward`, with the features and the classifier they were made of.

        In training mode this is a training step, as :meth:`forward` is: call one of the two.
        """
        h = self.normalize(features)
        weight, bias = (part.to(h.dtype) for part in self.classifier(h, labels))
        return HeadOutput(h, weight, bias, linear(h, weight, bias))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"dim={self.dim}, num_classes={self.num_classes}, temperature={self.temperature}"


def _unit_rows(matrix: Tensor) -> Tensor:
    """Divide rows by their norms; zero, with zero derivatives, for rows of zeros."""
    # Divided by the largest entry first, so that no square over- or underflows.
    largest = matrix.detach().abs().amax(dim=1, keepdim=True)
    is_zero = largest == 0
    scaled = torch.where(is_zero, 1, matrix / torch.where(is_zero, 1, largest))
    norms = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return torch.where(is_zero, 0, scaled / norms)
