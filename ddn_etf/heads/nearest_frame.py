"""A classifier that follows the features: the copy of any frame nearest to the class means."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ddn_etf.errors import FrameSizeError
from ddn_etf.frames.rotation import factorize_frame
from ddn_etf.heads.nearest import NearestHead, NearestHeadOptions
from ddn_etf.nearest import NearestFrame
from ddn_etf.validation import check_count

__all__ = ["NearestFrameHead"]


class NearestFrameHead(NearestHead):
    """The rotated copy of a frame nearest to the running class means, found in every training step.

        V* = argmin_V  ‖Y - V Fᵀ/‖F‖_F‖_F² + (δ/2) ‖V - V_prox‖_F²   subject to  Vᵀ V = I,
        W = F V*ᵀ,   b = -W μ_G,   logits = h Wᵀ + b,   h = τ f/‖f‖,

    with Y the running class means (:class:`ddn_etf.class_means.ClassMeans`), V_prox the V* of the
    step before and F (K, r) the frame. Angles and lengths of the frame are kept,
    W Wᵀ = F Fᵀ; where in the space of features it lies, the features decide. A frame of lower rank
    than it has columns is brought to as many columns as its rank first
    (:func:`ddn_etf.frames.factorize_frame`), so that d >= rank is all that is needed.

    :class:`NearestETFHead` is the case of a simplex ETF, and says more about the first step,
    evaluation and the state dict, which are the same here. Before training W is the frame itself,
    with zeros appended to its rows; the frame reduced to its rank if it has more than d columns.

    The class means are centred, so that a shift that all vectors of the frame have in common counts
    only as far as the classes in the batches differ.

    Markou, Ajanthan and Gould (2024), for the simplex ETF; other frames in its place are a
    generalisation.

    Args:
        frame: F, (K, r), one vector per class, K >= 2, floating point and finite. Unit vectors are
            usual: the length of a vector is the weight of its class.
        dim: d >= rank of F, number of features.
        **options: of :class:`NearestETFHead`: ``temperature``, ``proximal_weight``, ``average``,
            ``gradient_through_frame``, ``class_balanced``, ``synchronize``, ``validate``.

    Attributes:
        weight: W of the last training step, (K, d).
        bias: b of the last training step, (K,).
        proximal: V* of the last training step, (d, r).
        class_means: the running class means.
        node: the declarative node that finds V*.

    Raises:
        TypeError: ``dim`` is not an integer.
        ShapeError, DtypeError, FeatureError: the frame is not a finite floating-point matrix.
        FrameSizeError: K < 2, d below the rank of the frame, or a frame of zeros.
        ValueError: the temperature or the proximal weight is not a positive number.
    """

    def __init__(self, frame: Tensor, dim: int, **options: Unpack[NearestHeadOptions]) -> None:
        check_count("dim", dim, 0)
        factor, basis = factorize_frame(frame)
        if factor.shape[0] < 2:
            raise FrameSizeError("the frame has one vector: a classifier needs at least 2 classes")
        rank = factor.shape[1]
        if dim < rank:
            raise FrameSizeError(
                f"the vectors of the frame span {rank} dimensions and dim is {dim}; use "
                f"dim >= {rank}"
            )
        start = torch.eye(dim, rank, dtype=torch.float64, device="cpu")
        if basis.shape[0] <= dim:
            start = torch.nn.functional.pad(basis, (0, 0, 0, dim - basis.shape[0]))
        norm = float(torch.linalg.matrix_norm(factor))
        super().__init__(NearestFrame(factor / norm), start, norm, **options)
