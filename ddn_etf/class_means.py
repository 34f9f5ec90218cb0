"""Running class means: where the classes are, told from the batches seen so far.

After Markou, Ajanthan and Gould, "Guiding Neural Collapse: Optimising Towards the Nearest Simplex
Equiangular Tight Frame" (2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self

import torch
from torch import Tensor, nn

from ddn.errors import DeclarativeNodeError
from ddn_etf._buffers import (
    at_least_single,
    full_precision,
    keep_single,
    refuse_vmap,
    replace_buffers,
)
from ddn_etf._lengths import unit_norm
from ddn_etf.average_step import AverageStep
from ddn_etf.batch_means import batch_means
from ddn_etf.distributed import fail_together
from ddn_etf.errors import LabelError
from ddn_etf.validation import (
    check_count,
    check_features,
    check_labels,
    check_num_classes,
    check_values,
)

__all__ = ["ClassMeans", "CumulativeAverage", "ExponentialAverage", "MovingAverage", "SampleCounts"]


class SampleCounts:
    """How often each class was seen, this batch included; floating-point tensors.

    Args:
        dtype: of the tensors that the attributes are.
        counts: step, class_batches, class_samples and batch_samples as integers.
    """

    def __init__(self, dtype: torch.dtype, *counts: Tensor) -> None:
        # Converted when asked for: an average needs one or two of them.
        self._dtype, self._counts = dtype, counts

    @property
    def step(self) -> Tensor:
        """() batches so far."""
        return self._counts[0].to(self._dtype)

    @property
    def class_batches(self) -> Tensor:
        """(K,) batches so far that held the class."""
        return self._counts[1].to(self._dtype)

    @property
    def class_samples(self) -> Tensor:
        """(K,) samples of the class so far."""
        return self._counts[2].to(self._dtype)

    @property
    def batch_samples(self) -> Tensor:
        """(K,) samples of the class in this batch."""
        return self._counts[3].to(self._dtype)


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
    in float32, and the average is float32 or wider whatever the module is converted to. It takes the
    dtype of the features if that is the wider one.

    In a distributed run (a process group of two or more ranks) the means are those of the samples of
    all ranks, with their gradient: see :mod:`ddn_etf.distributed`. Every rank then holds the same
    state. A batch that one rank cannot use is refused on all of them.

    Args:
        num_classes: K >= 2.
        dim: d >= 1.
        average: the weight of a new batch, :class:`ExponentialAverage` or
            :class:`CumulativeAverage`, or any object with their ``weight`` method.
        validate: look for NaN, infinity and labels out of range in every batch. This makes the host
            wait for the device once per batch. Without it NaN spreads to all means, and a sample
            whose label is out of range counts for the global mean only; in a distributed run, the
            ranks do not tell each other of a batch they cannot use, and wait for the one that
            stopped.
        class_balanced: take the mean of the means of the classes in the batch for the global mean,
            in place of the mean of the samples: see :mod:`ddn_etf.batch_means`.
        synchronize: exchange the means in a distributed run. Without it each rank has its own.

    Attributes:
        running_means: R, (d, K).
        step: number of training batches seen.
        class_batches: (K,) how many of them held the class.
        class_samples: (K,) samples of each class seen.

    Raises:
        TypeError: a size is not an integer, or the average has no ``weight`` method.
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
        class_balanced: bool = False,
        synchronize: bool = True,
    ) -> None:
        super().__init__()
        check_num_classes(num_classes)
        check_count("dim", dim, 1)
        if isinstance(average, type) or not callable(getattr(average, "weight", None)):
            raise TypeError(
                "average must be an object with a method weight(counts), such as "
                f"ExponentialAverage(), found {average!r}"
            )
        self.num_classes, self.dim = num_classes, dim
        self.average, self.validate = average, validate
        self.class_balanced, self.synchronize = class_balanced, synchronize
        dtype = at_least_single(torch.get_default_dtype())
        self.register_buffer("running_means", torch.zeros(dim, num_classes, dtype=dtype))
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
            RankError: another rank was given a batch that it cannot use; the state is as before.
        """
        if not self.training or features is None:
            largest = self.running_means.abs().amax()
            unit = largest.masked_fill(largest == 0, torch.inf)
            return unit_norm(self.running_means, unit)[0]
        return self.average_in(features, labels)[0]

    def average_in(self, features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Average a batch in, in whatever mode: Y (d, K) and the global mean of the batch (d,).

        Both carry their gradient. Arguments and errors are those of :meth:`forward`.
        """
        return self.average_step(features, labels)[:2]

    def average_step(
        self, features: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, AverageStep]:
        """As :meth:`average_in`, with how Y and the global mean follow from the features."""
        try:
            labels = self._checked(features, labels)
        except DeclarativeNodeError as error:
            self.refuse(error)
        if self._fails_together:
            fail_together(None, self.running_means.device)
        with full_precision(features.device):
            return self._average_in(features, labels)

    def refuse(self, error: Exception) -> NoReturn:
        """Raise an error that comes before a training step, on all ranks of a distributed run.

        Raises:
            Exception: ``error``; :class:`ddn_etf.distributed.RankError` on the other ranks.
        """
        if self._fails_together:
            fail_together(error, self.running_means.device)
        raise error

    @property
    def _fails_together(self) -> bool:
        return self.validate and self.synchronize

    def _checked(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """The labels of a batch that can be used."""
        if labels is None:
            raise LabelError(
                "labels are missing: in training mode class means are taken from features and "
                "labels; pass both, or call .eval() to use what was stored"
            )
        check_features(features, self.dim)
        labels = check_labels(labels, features)
        refuse_vmap(features, labels)
        if self.validate:
            check_values(features, labels, self.num_classes)
        return labels

    def _average_in(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, AverageStep]:
        dtype = torch.promote_types(features.dtype, self.running_means.dtype)
        wide = features.to(dtype)
        batch = batch_means(
            wide,
            labels,
            self.num_classes,
            class_balanced=self.class_balanced,
            synchronize=self.synchronize,
        )
        present = batch.counts > 0
        step = self.step + 1
        class_batches = self.class_batches + present
        class_samples = self.class_samples + batch.counts
        counts = SampleCounts(dtype, step, class_batches, class_samples, batch.counts)
        alpha = present * self.average.weight(counts).to(dtype)
        before = self.running_means.detach().to(dtype)
        deviations, global_mean, rounding = batch.of(wide)
        averaged = torch.lerp(before, deviations, alpha)
        value = averaged.detach()
        largest = value.abs().amax()
        negligible = largest <= alpha.amax() * rounding
        # New tensors all the way: nothing that an earlier graph has saved is modified.
        replace_buffers(
            self,
            running_means=torch.where(negligible, 0, value),
            step=step,
            class_batches=class_batches,
            class_samples=class_samples,
        )
        unit = largest.masked_fill(negligible, torch.inf)
        means, norm = unit_norm(averaged, unit)
        return means, global_mean, AverageStep(batch, before, alpha, unit, norm.detach())

    def scale(self, factor: float) -> None:
        """Multiply the running means: features were measured in another unit so far."""
        self.running_means = self.running_means * factor

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.running_means = keep_single(self.running_means, self.running_means)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.running_means
        super()._apply(fn, recurse)
        self.running_means = keep_single(before, self.running_means)
        return self

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        text = f"num_classes={self.num_classes}, dim={self.dim}, average={self.average}"
        defaults = {"validate": True, "class_balanced": False, "synchronize": True}
        changed = (name for name, value in defaults.items() if getattr(self, name) != value)
        return ", ".join([text, *(f"{name}={getattr(self, name)}" for name in changed)])
