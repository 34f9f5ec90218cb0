"""A classifier that is chosen before training and never changes: any frame."""

from __future__ import annotations

from torch import Tensor

from ddn_etf.frames.rotation import as_frame
from ddn_etf.heads.base import Head
from ddn_etf.schedules import Schedule

__all__ = ["FixedFrameHead"]


class FixedFrameHead(Head):
    """W = a frame, b = 0; only the backbone is trained.

    The frame is any matrix with one row per class, for example

    * :func:`~ddn_etf.frames.simplex_etf`, see :class:`FixedETFHead`;
    * :func:`~ddn_etf.frames.orthogonal_frame`, for d >= K and mean squared error without a bias;
    * :func:`~ddn_etf.frames.softmax_code`, for more classes than dimensions, K > d + 1;
    * a frame of another dimension moved to d by :func:`~ddn_etf.frames.rotated_copy`, with a random
      rotation if a generator is given there.

    It is kept in the state dict in the dtype and on the device it has: a later ``.double()`` makes
    it wider, not more accurate. Labels are ignored. See :class:`Head` for rows that are zero, NaN or
    infinite.

    Args:
        frame: W, (K, d), floating point and finite.
        temperature: τ > 0, the length of the normalised features, or None to leave them as they
            are; or a schedule of τ.

    Raises:
        ShapeError, DtypeError: the frame is not a floating-point matrix.
        FeatureError: the frame holds NaN or infinity.
        FrameSizeError: every vector of the frame is zero.
        ValueError: the temperature is not a positive number.
    """

    def __init__(self, frame: Tensor, *, temperature: float | Schedule | None = 5.0) -> None:
        if not (isinstance(frame, Tensor) and frame.is_meta):
            as_frame(frame)
        super().__init__(frame.shape[1], frame.shape[0], temperature)
        self.register_buffer("weight", frame.detach().clone())
        self.register_buffer("bias", self.weight.new_zeros(self.num_classes))
