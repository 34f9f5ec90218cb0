"""Signatures that say nothing are left out: those of classes that no user constructs."""

from __future__ import annotations

from enum import Enum
from typing import Any

from sphinx.application import Sphinx

__all__ = ["setup"]


def _shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    if not isinstance(obj, type):
        return None
    is_interface = getattr(obj, "_is_protocol", False)
    is_generic = signature == "(*args, **kwargs)"
    return ("", returns) if is_interface or is_generic or issubclass(obj, Enum) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Applies to interfaces, enumerations and differentiable functions."""
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
