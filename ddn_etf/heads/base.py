"""What all heads share: features on a sphere, then logits = h Wᵀ + b."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ddn.errors import DtypeError
from ddn_etf._buffers import HostCopy, at_least_single, full_precision
from ddn_etf._lengths import rows_of_length
from ddn_etf.schedules import Schedule, positive_value
from ddn_etf.validation import check_count, check_features

__all__ = ["Head", "HeadOutput"]

# What the numbers are that can follow a schedule, for messages.
_MEANINGS = {
    "temperature": "the length of the features (pass None to leave the features as they are)",
    "proximal_weight": "which decides the directions that the class means leave open",
}


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
    float32. Under autocast everything here is done in the dtype of the weight, float32 as a rule:
    bfloat16 would move the vectors of a frame by 4e-3 of their length, and logits with them.

    Args:
        dim: d >= 1, number of features.
        num_classes: K >= 1.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are; or a schedule of τ (:mod:`ddn_etf.schedules`), see :meth:`advance`.

    Attributes:
        temperature: τ at present, or None.

    Raises:
        TypeError: a size is not an integer, or the temperature not a number or schedule.
        ValueError: a size is below 1, or the temperature is not a positive number.
    """

    weight: Tensor
    bias: Tensor
    schedule_step: Tensor
    _scheduled_step: int
    _step_copy: HostCopy

    def __init__(self, dim: int, num_classes: int, temperature: float | Schedule | None) -> None:
        super().__init__()
        check_count("dim", dim, 1)
        check_count("num_classes", num_classes, 1)
        self.dim, self.num_classes = dim, num_classes
        self._temperature: float | None = None
        self._schedules: dict[str, Schedule] = {}
        if temperature is not None:
            self._follow("temperature", temperature)

    @property
    def temperature(self) -> float | None:
        """τ at present, or None."""
        self._follow_state()
        return self._temperature

    @temperature.setter
    def temperature(self, value: float | None) -> None:
        self._temperature = value

    def advance(self, steps: int = 1) -> None:
        """Go on to the next step of the schedules; nothing happens where there is none.

        Call it once per epoch or once per batch, as the schedules are meant, on every rank of a
        distributed run. The number of steps so far is in the state dict (``schedule_step``), so that
        a checkpoint goes on where it was.

        Args:
            steps: how many, at least 1.

        Raises:
            ValueError: a schedule has a value that is not positive; nothing has changed.
        """
        check_count("steps", steps, 1)
        if not self._schedules:
            return
        self._follow_state()
        step = self._scheduled_step + steps
        values = self._scheduled(step)
        self._scheduled_step, self.schedule_step = step, self.schedule_step + steps
        self._step_copy.write(step, self.schedule_step)
        self._change(values)

    def _follow(self, name: str, value: float | Schedule) -> None:
        """Set a number of the head, or have it follow a schedule."""
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number and (isinstance(value, type) or not callable(value)):
            raise TypeError(
                f"{name} must be a number, or a schedule such as LinearSchedule(start, end, steps), "
                f"found {value!r}"
            )
        if callable(value):
            self._schedules[name] = value
            self.register_buffer("schedule_step", torch.zeros((), dtype=torch.int64))
            self._scheduled_step, self._step_copy = 0, HostCopy(0, self.schedule_step)
        setattr(self, name, positive_value(name, value, _MEANINGS[name]))

    def _scheduled(self, step: int) -> dict[str, float]:
        return {
            name: positive_value(name, schedule, _MEANINGS[name], step)
            for name, schedule in self._schedules.items()
        }

    def _change(self, values: dict[str, float]) -> None:
        """Take new values of scheduled numbers; what was found with the old ones is adapted."""
        for name, value in values.items():
            setattr(self, name, value)

    def _follow_state(self) -> None:
        """Take the values of the step in the buffer, which may have been loaded or broadcast."""
        if not self._schedules:
            return
        step = self._step_copy.read(self.schedule_step)
        if step != self._scheduled_step:
            self._scheduled_step = step
            # The rest of the state belongs to these values already.
            for name, value in self._scheduled(step).items():
                setattr(self, name, value)

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
        self.check(features)
        dtype = self.weight.dtype
        if self.temperature is None:
            return features.to(dtype)
        wide = features.to(at_least_single(dtype))
        return rows_of_length(wide, self.temperature).to(dtype)

    def check(self, features: Tensor) -> None:
        """Check shape and dtype of features; the errors are those of :meth:`normalize`."""
        check_features(features, self.dim)
        dtype = self.weight.dtype
        if torch.promote_types(features.dtype, dtype) != dtype:
            raise DtypeError(
                f"features are {features.dtype} and the head is {dtype}: convert the head with "
                f".to({features.dtype}), or the features with .to({dtype})"
            )

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
        with full_precision(h.device):
            logits = linear(h, weight, bias)
        return HeadOutput(h, weight, bias, logits)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"dim={self.dim}, num_classes={self.num_classes}, temperature={self.temperature}"
