"""What can go wrong with frames, features and labels, by name.

Wrong shapes and dtypes are :class:`ddn.errors.ShapeError` and :class:`ddn.errors.DtypeError`.
"""

from __future__ import annotations

from ddn.errors import DeclarativeNodeError

__all__ = ["FeatureError", "FrameSizeError", "LabelError"]


class FrameSizeError(DeclarativeNodeError, ValueError):
    """No simplex frame exists for this number of classes in this dimension."""


class FeatureError(DeclarativeNodeError, ValueError):
    """Features or weights that hold NaN or infinity, or a batch without samples."""


class LabelError(DeclarativeNodeError, ValueError):
    """Labels that are missing or out of range, or classes without samples."""
