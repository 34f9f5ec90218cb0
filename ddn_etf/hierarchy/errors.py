"""What can go wrong with a hierarchy."""

from __future__ import annotations

from ddn.errors import DeclarativeNodeError

__all__ = ["HierarchyError"]


class HierarchyError(DeclarativeNodeError, ValueError):
    """What was given is no tree over classes, or says nothing about how they are related."""
