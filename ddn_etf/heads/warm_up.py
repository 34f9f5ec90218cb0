"""Two heads one after the other: a learned one for the first steps, then one that follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf._buffers import HostCopy, replace_buffers
from ddn_etf.heads.base import Head, HeadOutput
from ddn_etf.heads.nearest import NearestHead
from ddn_etf.validation import check_count

__all__ = ["WarmUpHead"]


class WarmUpHead(Head):
    """A learned head in the first training steps, the nearest frame afterwards.

        WarmUpHead(LinearHead(64, 10, temperature=5.0, unit_rows=True), NearestETFHead(64, 10), 500)

    In the first steps class means say little about where the classes will be. While the learned
    head is trained, the other one already averages the class means of the batches, so that its first
    frame is the one nearest to what they have become.

    The switch comes after ``steps`` training steps, or at :meth:`finish`. Where it stands is in the
    state dict. Evaluation uses the head whose turn it is, and the learned one until the other has had
    its first training step; ``weight`` and ``bias`` are its. After the switch the parameters of the
    learned head get no gradient any more: ``DistributedDataParallel`` then needs
    ``find_unused_parameters=True``.

    Args:
        learned: for the first steps.
        nearest: for the rest, of the same d and K.
        steps: number of training steps with the learned head, or None to wait for :meth:`finish`.

    Attributes:
        step: () training steps with the learned head so far.
        finished: () whether the switch has come.

    Raises:
        ShapeError: the heads differ in d or K.
        TypeError, ValueError: ``steps`` is not an integer of at least 0.
    """

    step: Tensor
    finished: Tensor

    def __init__(self, learned: Head, nearest: NearestHead, steps: int | None = None) -> None:
        sizes = [(head.dim, head.num_classes) for head in (learned, nearest)]
        if sizes[0] != sizes[1]:
            raise ShapeError(
                f"the learned head is for (d, K) = {sizes[0]} and the nearest one for {sizes[1]}; "
                "make both with the same sizes"
            )
        if steps is not None:
            check_count("steps", steps, 0)
        super().__init__(learned.dim, learned.num_classes, None)
        self.learned, self.nearest, self.steps = learned, nearest, steps
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("finished", torch.tensor(steps == 0))
        self._step_copy = HostCopy(0, self.step)
        self._finished_copy = HostCopy(steps == 0, self.finished)

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            return getattr(self.active, name)
        return super().__getattr__(name)

    @property
    def active(self) -> Head:
        """The head whose turn it is."""
        # After the switch, the nearest frame is found in the next training step.
        waits = self._steps_so_far > 0 and not self.training and not self.nearest.has_trained
        return self.nearest if self._is_finished and not waits else self.learned

    @property
    def _is_finished(self) -> bool:
        return bool(self._finished_copy.read(self.finished))

    @property
    def _steps_so_far(self) -> int:
        return self._step_copy.read(self.step)

    @property
    def temperature(self) -> float | None:
        """τ at present, of the head whose turn it is."""
        return self.active.temperature

    @temperature.setter
    def temperature(self, value: float | None) -> None:
        """The heads have their own."""

    def finish(self) -> None:
        """Switch to the nearest frame now."""
        replace_buffers(self, finished=torch.ones_like(self.finished))
        self._finished_copy.write(True, self.finished)

    def advance(self, steps: int = 1) -> None:
        """Go on to the next step of the schedules of both heads."""
        self.learned.advance(steps)
        self.nearest.advance(steps)

    def outputs(self, features: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """Those of the head whose turn it is; in training mode, a step of the warm-up as well."""
        if self._is_finished or not self.training:
            return self.active.outputs(features, labels)
        self.nearest.track(features, labels)
        output = self.learned.outputs(features, labels)
        steps = self._steps_so_far + 1
        replace_buffers(self, step=self.step + 1)
        self._step_copy.write(steps, self.step)
        if self.steps is not None and steps >= self.steps:
            self.finish()
        return output

    def normalize(self, features: Tensor) -> Tensor:
        """What the weight of the head whose turn it is is multiplied with."""
        return self.active.normalize(features)

    def classifier(self, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight and bias of the head whose turn it is."""
        return self.active.classifier(h, labels)

    def check(self, features: Tensor) -> None:
        """Check shape and dtype of features, as the head whose turn it is does."""
        self.active.check(features)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"steps={self.steps}, finished={self._is_finished}"
