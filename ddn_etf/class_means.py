"""Running class means: where the classes are, told from the batches seen so far.

After Markou, Ajanthan and Gould, "Guiding Neural Collapse: Optimising Towards the Nearest Simplex
Equiangular Tight Frame" (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ddn_etf.errors import LabelError
from ddn_etf.validation import (
    check_count,
    check_features,
    check_labels,
    check_num_classes,
    check_values,
)

__all__ = ["ClassMeans", "CumulativeAverage", "ExponentialAverage", "MovingAverage", "SampleCounts"]


class SampleCounts(NamedTuple):
    """How often each class was seen, this batch included; floating-point tensors.

    Attributes:
        step: () batches so far.
        class_batches: (K,) batches so far that held the class.
        class_samples: (K,) samples of the class so far.
        batch_samples: (K,) samples of the class in this batch.
    """

    step: Tensor
    class_batches: Tensor
    class_samples: Tensor
    batch_samples: Tensor


class MovingAverage(Protocol):
    """The weight α of a new batch in a running mean: mean ← (1 - α) mean + α batch mean."""

    def weight(self, counts: SampleCounts) -> Tensor:
        """α in [0, 1], one number () or one per class (K,).

        It is used for the classes in the batch; the others keep their mean whatever it says.
        """
        ...


@dataclass(frozen=True)
class ExponentialAverage:
    """α_t = max(2/(t+1), floor), t = 1, 2, ...

    Args:
        floor: smallest weight of a new batch, in [0, 1]. It bounds the memory to about 2/floor
            batches.
        per_class: t counts the batches that held the class, in place of all batches. A class that
            is first seen late then starts at its own mean; otherwise it starts at α_t times it,
            as published.

    Raises:
        ValueError: ``floor`` is outside [0, 1].
    """

    floor: float = 1e-4
    per_class: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must lie in [0, 1], found {self.floor}")

    def weight(self, counts: SampleCounts) -> Tensor:
        """max(2/(t+1), floor); () or, with ``per_class``, (K,)."""
        t = counts.class_batches if self.per_class else counts.step
        return (2 / (t + 1)).clamp(min=self.floor)


@dataclass(frozen=True)
class CumulativeAverage:
    """The mean over all samples of the class so far, each with the same weight.

    A sample counts as its deviation from the global mean of its own batch.
    """

    def weight(self, counts: SampleCounts) -> Tensor:
        """The share of this batch in the samples of each class, (K,)."""
        return counts.batch_samples / counts.class_samples.clamp(min=1)


class ClassMeans(nn.Module):
    """Moving average of the centred class means, with unit Frobenius norm.

    In training mode, for features h_i with labels y_i,

        D_k = mean of h_i over y_i = k  -  mean of all h_i,
        R_k ← (1 - α) R_k + α D_k  for the classes in the batch; the others keep their R_k,
        Y = R / ‖R‖_F.

    The gradient reaches the features of the current batch through D, the global mean included; what
    was averaged before is a constant. In evaluation mode, or without features, Y comes from the
    stored R.

    Defined results: R is zero for a class that was never seen. Where R is zero, or no larger than
    the rounding error of the batch it was computed from (a batch of one class, a batch of equal
    features), R and Y are exactly zero and so is the gradient. Half-precision features are averaged
    in float32. The average takes the dtype of the features if that is the wider one.

    The processes of a distributed run do not exchange their means.

    Args:
        num_classes: K >= 2.
        dim: d >= 1.
        average: the weight of a new batch, :class:`ExponentialAverage` or
            :class:`CumulativeAverage`, or any object with their ``weight`` method.
        validate: look for NaN, infinity and labels out of range in every batch. This makes the host
            wait for the device once per batch. Without it NaN spreads to all means, and a sample
            whose label is out of range counts for the global mean only.

    Attributes:
        running_means: R, (d, K).
        step: number of training batches seen.
        class_batches: (K,) how many of them held the class.
        class_samples: (K,) samples of each class seen.

    Raises:
        TypeError: a size is not an integer.
        ValueError: K < 2 or d < 1.
    """

    running_means: Tensor
    step: Tensor
    class_batches: Tensor
    class_samples: Tensor

    def __init__(
        self,
        num_classes: int,
        dim: int,
        average: MovingAverage = ExponentialAverage(),
        *,
        validate: bool = True,
    ) -> None:
        super().__init__()
        check_num_classes(num_classes)
        check_count("dim", dim, 1)
        self.num_classes, self.dim = num_classes, dim
        self.average, self.validate = average, validate
        self.register_buffer("running_means", torch.zeros(dim, num_classes))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("class_batches", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("class_samples", torch.zeros(num_classes, dtype=torch.int64))

    def forward(self, features: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Y (d, K), columns are classes; in training mode the batch is averaged in first.

        Args:
            features: (N, d), floating point, finite, N >= 1.
            labels: (N,) integers in 0..K-1.

        Raises:
            FeatureError: NaN or infinity, or no samples; the state is as before.
            LabelError: labels missing in training mode or out of range; the state is as before.
            ShapeError, DtypeError: wrong shapes, dtypes or devices; the state is as before.
        """
        if not self.training or features is None:
            return _unit_norm(self.running_means)
        if labels is None:
            raise LabelError(
                "labels are missing: in training mode class means are taken from features and "
                "labels; pass both, or call .eval() to use what was stored"
            )
        check_features(features, self.dim)
        labels = check_labels(labels, features)
        if self.validate:
            check_values(features, labels, self.num_classes)
        with torch.autocast(features.device.type, enabled=False):
            return self._average_in(features, labels)

    def _average_in(self, features: Tensor, labels: Tensor) -> Tensor:
        dtype = torch.promote_types(features.dtype, self.running_means.dtype)
        dtype = torch.promote_types(dtype, torch.float32)
        features = features.to(dtype)
        member = labels.unsqueeze(1) == torch.arange(self.num_classes, device=labels.device)
        batch_samples = member.sum(dim=0)
        step = self.step + 1
        class_batches = self.class_batches + (batch_samples > 0)
        class_samples = self.class_samples + batch_samples
        counts = SampleCounts(
            *(c.to(dtype) for c in (step, class_batches, class_samples, batch_samples))
        )
        alpha = self.average.weight(counts).to(dtype)
        deviations, rounding = _batch_deviations(features, member.to(dtype), counts.batch_samples)
        # New tensors all the way: nothing that an earlier graph has saved is modified.
        history = self.running_means.detach().to(dtype)
        averaged = (1 - alpha) * history + alpha * deviations
        running = torch.where(batch_samples > 0, averaged, history)
        largest_alpha = torch.where(batch_samples > 0, alpha, 0).amax()
        negligible = running.detach().abs().amax() <= largest_alpha * rounding
        running = torch.where(negligible, 0, running)
        self.running_means = running.detach()
        self.step, self.class_batches, self.class_samples = step, class_batches, class_samples
        return _unit_norm(running)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        text = f"num_classes={self.num_classes}, dim={self.dim}, average={self.average}"
        return text if self.validate else f"{text}, validate=False"


def _batch_deviations(features: Tensor, member: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Class means minus global mean (d, K), and a bound () on the rounding error in them.

    Both means are taken about a nearby origin, so that a large common offset of the features does
    not drown their differences. The origin cancels, hence it needs no gradient.
    """
    shifted = features - features.detach().mean(dim=0)
    means = shifted.mT @ member / counts.clamp(min=1)
    deviations = means - shifted.mean(dim=0).unsqueeze(1)
    # A sum of N rounded terms is off by about √N units in the last place; the factor is a margin.
    units = 8 * features.shape[0] ** 0.5 * torch.finfo(features.dtype).eps
    return deviations, units * shifted.detach().abs().amax()


def _unit_norm(matrix: Tensor) -> Tensor:
    """Divide by the Frobenius norm; zero, with zero derivatives, for the zero matrix."""
    # Divided by the largest entry first, so that no square over- or underflows.
    largest = matrix.detach().abs().amax()
    is_zero = largest == 0
    scaled = torch.where(is_zero, 1, matrix / torch.where(is_zero, 1, largest))
    return torch.where(is_zero, 0, scaled / torch.linalg.vector_norm(scaled))
