"""A classifier that follows the features: the simplex ETF nearest to the class means."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddn_etf.class_means import ExponentialAverage, MovingAverage
from ddn_etf.frames import simplex_basis, simplex_etf
from ddn_etf.heads.nearest import NearestHead
from ddn_etf.nearest import NearestETF
from ddn_etf.schedules import Schedule
from ddn_etf.validation import check_frame_size

__all__ = ["NearestETFHead"]


class NearestETFHead(NearestHead):
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
    solution of that. V_prox is a constant to the gradient, in this step as in all others. In
    evaluation mode W and b are those of the last training step; before any, W is the canonical simplex
    ETF and b = 0. Everything is in the state dict, so that training goes on from a checkpoint as if it
    had not stopped.

    Defined results: classes that no batch has held, equal class means and means that are all zero
    leave directions of V* open, which stay those of V_prox. See :class:`Head` for rows of zeros,
    and for NaN and infinity in evaluation mode.

    Markou, Ajanthan and Gould, "Guiding Neural Collapse: Optimising Towards the Nearest Simplex
    Equiangular Tight Frame" (2024).

    Args:
        dim: d, number of features; d >= K - 1 (intrinsic) or d >= K (published).
        num_classes: K >= 2.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are; or a schedule of τ, see :meth:`Head.advance`. When τ changes, the running means and
            b change in proportion, as if all batches had been seen at the new τ.
        proximal_weight: δ > 0, or a schedule of δ.
        average: how the class means are averaged over batches.
        gradient_through_frame: let the gradient pass through V*. Without it W is a constant in each
            step.
        form: ``"intrinsic"`` or ``"published"``.
        class_balanced: for imbalanced data, μ_G (in Y and in b) is the mean of the means of the
            classes in the batch, in place of the mean of the samples: see
            :mod:`ddn_etf.batch_means`.
        synchronize: in a distributed run, take the means over the samples of all ranks, so that
            every rank has the same frame: see :mod:`ddn_etf.distributed`.
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

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        temperature: float | Schedule | None = 5.0,
        proximal_weight: float | Schedule = 1e-3,
        average: MovingAverage = ExponentialAverage(),
        gradient_through_frame: bool = True,
        form: str = "intrinsic",
        class_balanced: bool = False,
        synchronize: bool = True,
        validate: bool = True,
    ) -> None:
        check_frame_size(num_classes, dim)
        super().__init__(
            NearestETF(num_classes, dim, form=form),
            _canonical_factor(num_classes, dim, form),
            temperature=temperature,
            proximal_weight=proximal_weight,
            average=average,
            gradient_through_frame=gradient_through_frame,
            class_balanced=class_balanced,
            synchronize=synchronize,
            validate=validate,
        )


def _canonical_factor(num_classes: int, dim: int, form: str) -> Tensor:
    """The V whose frame is the canonical simplex ETF; of the K of the published form, I_{d×K}."""
    if form == "published":
        return torch.eye(dim, num_classes, dtype=torch.float64, device="cpu")
    frame = simplex_etf(num_classes, dim, dtype=torch.float64, device="cpu")
    basis = simplex_basis(num_classes, dtype=torch.float64, device="cpu")
    return math.sqrt((num_classes - 1) / num_classes) * frame.mT @ basis
