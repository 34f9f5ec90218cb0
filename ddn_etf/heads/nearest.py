"""What all heads share that follow the features: the copy of a frame nearest to the class means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypedDict

import torch
from torch import Tensor

from ddn.captured import captured_tensors
from ddn.errors import DeclarativeNodeError, DerivativeError
from ddn_etf._autograd import is_left_to_autograd
from ddn_etf._buffers import (
    HostCopy,
    at_least_single,
    full_precision,
    keep_single,
    replace_buffers,
)
from ddn_etf.class_means import ClassMeans, ExponentialAverage, MovingAverage
from ddn_etf.heads.base import Head, HeadOutput
from ddn_etf.heads.nearest_step import NearestStep
from ddn_etf.nearest import NearestFrame
from ddn_etf.schedules import Schedule

__all__ = ["NearestHead", "NearestHeadOptions"]


class NearestHeadOptions(TypedDict, total=False):
    """What all of these heads take by keyword; :class:`NearestHead` has the defaults."""

    temperature: float | Schedule | None
    proximal_weight: float | Schedule
    average: MovingAverage
    gradient_through_frame: bool
    class_balanced: bool
    synchronize: bool
    validate: bool


class NearestHead(Head):
    """The rotated copy of a frame nearest to the running class means, found anew in every step.

        V* = argmin_V  ‖Y - V Fᵀ‖_F² + (δ/2) ‖V - V_prox‖_F²   subject to  Vᵀ V = I,
        W = c node.weight(V*),   b = -W μ_G,   logits = h Wᵀ + b,   h = τ f/‖f‖,

    as described for :class:`NearestFrameHead` and :class:`NearestETFHead`, which choose the frame.

    Args:
        node: finds V* for the means Y (d, K) and the proximal point (d, r).
        start: (d, r), V before training.
        scale: c > 0.
        temperature: τ > 0, or None to leave the features as they are; or a schedule of τ.
        proximal_weight: δ > 0, or a schedule of δ.
        average: how the class means are averaged over batches.
        gradient_through_frame: let the gradient pass through V*.
        class_balanced: the global mean is the mean of the class means.
        synchronize: exchange the means in a distributed run.
        validate: look for NaN, infinity and labels out of range in every training batch.

    Raises:
        ValueError: the temperature or the proximal weight is not a positive number.
    """

    proximal: Tensor
    started: Tensor

    def __init__(
        self,
        node: NearestFrame,
        start: Tensor,
        scale: float = 1.0,
        *,
        temperature: float | Schedule | None = 5.0,
        proximal_weight: float | Schedule = 1e-3,
        average: MovingAverage = ExponentialAverage(),
        gradient_through_frame: bool = True,
        class_balanced: bool = False,
        synchronize: bool = True,
        validate: bool = True,
    ) -> None:
        dim, num_classes = start.shape[0], node.frame.shape[0]
        super().__init__(dim, num_classes, temperature)
        self.gradient_through_frame = gradient_through_frame
        self.class_means = ClassMeans(
            num_classes,
            dim,
            average,
            validate=validate,
            class_balanced=class_balanced,
            synchronize=synchronize,
        )
        self.node = node
        self.scale = scale
        self._follow("proximal_weight", proximal_weight)
        dtype, device = torch.get_default_dtype(), torch.get_default_device()
        weight = self._weight(start.to("cpu", torch.float64))
        self.register_buffer("weight", weight.to(dtype).to(device))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("proximal", start.to(at_least_single(dtype)).to(device))
        self.register_buffer("started", torch.tensor(False))
        self._has_started = HostCopy(False, self.started)

    @property
    def has_trained(self) -> bool:
        """Whether there has been a training step, so that the frame is that of class means."""
        return bool(self._has_started.read(self.started))

    @property
    def proximal_weight(self) -> float:
        """δ at present; it belongs to the node."""
        self._follow_state()
        return self.node.proximal_weight

    @proximal_weight.setter
    def proximal_weight(self, value: float) -> None:
        self.node.proximal_weight = value

    def outputs(self, features: Tensor, labels: Tensor | None = None) -> HeadOutput:
        """Logits, with the features and the classifier they were made of.

        In training mode this is a training step, as :meth:`forward` is: call one of the two.
        """
        if self.training:
            self._check_on_all_ranks(features)
        return super().outputs(features, labels)

    def classifier(self, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """W and b: of this batch in training mode, of the last one in evaluation mode.

        Args:
            h: (N, d), normalised features.
            labels: (N,) integers in 0..K-1; needed in training mode, ignored in evaluation mode.

        Raises:
            FeatureError: in training mode, NaN or infinity, or an empty batch.
            LabelError: in training mode, labels missing or out of range.
            ShapeError, DtypeError: in training mode, labels of the wrong shape or dtype.
            SolveError: in training mode, V* is not determined: C = 2 Y F + δ V_prox has lower rank,
                or without ``validate`` the features hold NaN or infinity.
            RankError: in training mode, another rank of a distributed run was given a batch that it
                cannot use.
            DerivativeError: in training mode, called again by activation checkpointing.

        After an error the state is as before.
        """
        if not self.training:
            return self.weight, self.bias
        with full_precision(h.device):
            V, global_mean = self._solve(h, labels)
            weight = self._weight(V)
            bias = -(weight @ global_mean)
            # Replaced by copies, not overwritten: earlier graphs may have saved the old tensors, and
            # what overwrites the state later on must not reach into this graph.
            replace_buffers(
                self,
                proximal=V.detach().clone(),
                weight=weight.detach().to(self.weight.dtype, copy=True),
                bias=bias.detach().to(self.bias.dtype, copy=True),
            )
            if not self.has_trained:
                replace_buffers(self, started=torch.ones_like(self.started))
                self._has_started.write(True, self.started)
        return weight, bias

    def track(self, features: Tensor, labels: Tensor | None) -> None:
        """Average a batch into the class means, and leave the classifier as it is.

        For batches on which another head is trained: see :class:`WarmUpHead`. Arguments and errors
        are those of :meth:`outputs`.
        """
        self._check_on_all_ranks(features)
        with torch.no_grad():
            self.class_means.average_in(self.normalize(features), labels)

    def _check_on_all_ranks(self, features: Tensor) -> None:
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            raise DerivativeError(
                f"{type(self).__name__} is called by a backward pass, as activation checkpointing does "
                "to compute a part of the network again. That would be another training step of the "
                "head, with other class means. Leave the head out of what is checkpointed: it needs "
                "little memory"
            )
        try:
            self.check(features)
        except DeclarativeNodeError as error:
            self.class_means.refuse(error)

    def _weight(self, V: Tensor) -> Tensor:
        weight = self.node.weight(V)
        return weight if self.scale == 1 else self.scale * weight

    def _solve(self, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        self._follow_state()
        before = dict(self.class_means._buffers)
        try:
            V, global_mean = self._make_step(h, labels)
        except BaseException:
            # The batch must leave no trace in the average either.
            self.class_means._buffers.update(before)
            raise
        return (V if self.gradient_through_frame else V.detach()), global_mean

    def _make_step(self, h: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        node, in_one_piece = self.node, self._has_closed_form(h)
        given = h.detach() if in_one_piece else h
        means, global_mean, step = self.class_means.average_step(given, labels)
        if in_one_piece and step.alpha.requires_grad:  # an average that is learned
            means, global_mean = step.means(h.to(means.dtype))
            in_one_piece = False
        if not self.gradient_through_frame:
            means = means.detach()
        proximal = self._proximal_point(means.detach())
        if not in_one_piece:
            return node(means, proximal), global_mean
        V, saved = node.solve_and_save(means, proximal)
        found: tuple[Tensor, Tensor] = NearestStep.apply(
            h, node, step, proximal, means, global_mean, V, *saved
        )
        return found

    def _has_closed_form(self, h: Tensor) -> bool:
        node = self.node
        return (
            node.uses_closed_form
            and node.solver is None
            and is_left_to_autograd(h)
            and not node._forward_hooks
            and not node._forward_pre_hooks
            and not any(tensor.requires_grad for tensor in captured_tensors(node).values())
        )

    @torch.no_grad()
    def _proximal_point(self, means: Tensor) -> Tensor:
        proximal = self.proximal.to(means.dtype)
        return proximal if self.has_trained else self.node(means, proximal)

    def _change(self, values: dict[str, float]) -> None:
        before = self.temperature
        super()._change(values)
        if before is not None and self.temperature is not None and self.temperature != before:
            # h = τ f/‖f‖, and with it R and b = -W μ_G, are proportional to τ: as if all batches so
            # far had been seen at the present τ.
            ratio = self.temperature / before
            self.class_means.scale(ratio)
            self.bias = self.bias * ratio

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.proximal
        super()._apply(fn, recurse)
        self.proximal = keep_single(before, self.proximal)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.proximal = keep_single(self.proximal, self.proximal)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, gradient_through_frame={self.gradient_through_frame}"
