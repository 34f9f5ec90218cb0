"""A classifier that follows the features: the simplex ETF nearest to the class means."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ddn.errors import SolveError
from ddn_etf.class_means import ClassMeans, ExponentialAverage, MovingAverage
from ddn_etf.frames import simplex_basis, simplex_etf
from ddn_etf.heads.base import Head
from ddn_etf.nearest import NearestETF
from ddn_etf.validation import check_frame_size

__all__ = ["NearestETFHead"]


class NearestETFHead(Head):
    """The simplex ETF nearest to the running class means, found anew in every training step.

        V* = argmin_V  ‖Y - V Fᵀ‖_F² + (δ/2) ‖V - V_prox‖_F²   subject to  Vᵀ V = I,
        W = √(K/(K-1)) M V*ᵀ,   b = -W μ_G,   logits = h Wᵀ + b,   h = τ f/‖f‖,

    with Y the running class means (:class:`ddn_etf.class_means.ClassMeans`), F = M/√(K-1) the
    simplex frame (``form="published"``) or F = Q/√(K-1) its intrinsic factor (``form="intrinsic"``,
    where Q takes the place of M in W), μ_G the mean of the batch and V_prox the V* of the step
    before. There is nothing to learn: only the backbone is trained, and its gradient passes through
    h, through μ_G and through V*.

    The first step has no step before it. It solves twice: first with V_prox = the factor of the
    canonical simplex ETF, which decides the directions that Y leaves open, then with V_prox = the
    solution of that. In evaluation mode W and b are those of the last training step; before any, W
    is the canonical simplex ETF and b = 0. Everything is in the state dict, so that training goes
    on from a checkpoint as if it had not stopped.

    Defined results: classes that no batch has held, equal class means and means that are all zero
    leave directions of V* open, which stay those of V_prox. See :class:`Head` for rows of zeros,
    and for NaN and infinity in evaluation mode.

    Markou, Ajanthan and Gould, "Guiding Neural Collapse: Optimising Towards the Nearest Simplex
    Equiangular Tight Frame" (2024).

    Args:
        dim: d, number of features; d >= K - 1 (intrinsic) or d >= K (published).
        num_classes: K >= 2.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are.
        proximal_weight: δ > 0.
        average: how the class means are averaged over batches.
        gradient_through_frame: let the gradient pass through V*. Without it W is a constant in each
            step.
        form: ``"intrinsic"`` or ``"published"``.
        validate: look for NaN, infinity and labels out of range in every training batch. This makes
            the host wait for the device once per batch.

    Attributes:
        weight: W of the last training step, (K, d).
        bias: b of the last training step, (K,).
        proximal: V* of the last training step, (d, K - 1) intrinsic or (d, K) published.
        class_means: the running class means.
        node: the declarative node that finds V*.

    Raises:
        TypeError: a size is not an integer.
        FrameSizeError: K < 2 or d < K - 1.
        ValueError: the temperature or the proximal weight is not a positive number, the form is
            unknown, or d < K with the published form.
    """

    proximal: Tensor
    started: Tensor

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        temperature: float | None = 5.0,
        proximal_weight: float = 1e-3,
        average: MovingAverage = ExponentialAverage(),
        gradient_through_frame: bool = True,
        form: str = "intrinsic",
        validate: bool = True,
    ) -> None:
        check_frame_size(num_classes, dim)
        if not 0 < proximal_weight < math.inf:
            raise ValueError(
                f"proximal_weight must be a positive number, found {proximal_weight}: it decides "
                "the directions that the class means leave open"
            )
        super().__init__(dim, num_classes, temperature)
        self.gradient_through_frame = gradient_through_frame
        self.class_means = ClassMeans(num_classes, dim, average, validate=validate)
        self.node = NearestETF(num_classes, dim, proximal_weight=proximal_weight, form=form)
        self.register_buffer("weight", simplex_etf(num_classes, dim))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("proximal", _canonical_factor(num_classes, dim, form))
        self.register_buffer("started", torch.tensor(False))
        # The flag once more for the host, which must not wait for the device to read it.
        self._started = False

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

        After an error the state is as before.
        """
        if not self.training:
            return self.weight, self.bias
        with torch.autocast(h.device.type, enabled=False):
            h = h.to(torch.promote_types(h.dtype, torch.float32))
            V = self._solve(h, labels)
            weight = self.node.weight(V)
            bias = -(weight @ h.mean(dim=0))
            # Replaced, not overwritten: earlier graphs may have saved the old tensors.
            self.proximal = V.detach()
            self.weight = weight.detach().to(self.weight.dtype)
            self.bias = bias.detach().to(self.bias.dtype)
            self.started, self._started = torch.ones_like(self.started), True
        return weight, bias

    def _solve(self, h: Tensor, labels: Tensor | None) -> Tensor:
        before = dict(self.class_means.named_buffers())
        means = self.class_means(h, labels)
        if not self.gradient_through_frame:
            means = means.detach()
        try:
            V: Tensor = self.node(means, self._proximal_point(means))
        except SolveError:
            # The batch must leave no trace in the average either.
            for name, buffer in before.items():
                setattr(self.class_means, name, buffer)
            raise
        return V

    @torch.no_grad()
    def _proximal_point(self, means: Tensor) -> Tensor:
        proximal = self.proximal.to(means.dtype)
        return proximal if self._started else self.node(means, proximal)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._started = bool(self.started)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, gradient_through_frame={self.gradient_through_frame}"


def _canonical_factor(num_classes: int, dim: int, form: str) -> Tensor:
    """The V whose frame is the canonical simplex ETF; of the K of the published form, I_{d×K}."""
    if form == "published":
        return torch.eye(dim, num_classes)
    frame = simplex_etf(num_classes, dim, dtype=torch.float64, device="cpu")
    basis = simplex_basis(num_classes, dtype=torch.float64, device="cpu")
    factor = math.sqrt((num_classes - 1) / num_classes) * frame.mT @ basis
    return factor.to(dtype=torch.get_default_dtype(), device=torch.get_default_device())
