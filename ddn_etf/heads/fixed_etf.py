"""A classifier that is chosen before training and never changes: a simplex ETF."""

from __future__ import annotations

import torch

from ddn_etf.frames import simplex_etf
from ddn_etf.heads.fixed_frame import FixedFrameHead
from ddn_etf.schedules import Schedule

__all__ = ["FixedETFHead"]


class FixedETFHead(FixedFrameHead):
    """W = one simplex equiangular tight frame with unit rows, b = 0; only the backbone is trained.

    The frame is canonical, √(K/(K-1)) M I_{K×d}, or randomly rotated if a generator is given. It is
    kept in the state dict, rounded to the default dtype of torch at the time: a later ``.double()``
    makes it wider, not more accurate. Labels are ignored. See :class:`Head` for rows that are zero,
    NaN or infinite.

    Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained Features" (2021), who
    also take d = K: a last layer with as many features as classes saves the parameters of the rest.

    Args:
        dim: d >= K - 1, number of features.
        num_classes: K >= 2.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are; or a schedule of τ.
        generator: source of a random rotation.

    Raises:
        TypeError: a size is not an integer.
        FrameSizeError: K < 2 or d < K - 1.
        ValueError: the temperature is not a positive number.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        temperature: float | Schedule | None = 5.0,
        generator: torch.Generator | None = None,
    ) -> None:
        frame = simplex_etf(num_classes, dim, generator=generator)
        super().__init__(frame, temperature=temperature)
