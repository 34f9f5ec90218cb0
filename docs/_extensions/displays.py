"""Formulas that a docstring sets apart keep their lines and spaces.

These are the problem that a docstring opens with ("argmin_y ...") and every block that is indented
under a paragraph. reStructuredText would make them a running text and a quotation.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

__all__ = ["setup"]

_NOT_ABOVE_A_DISPLAY = re.compile(r"[*-] |\.\. |.*::$|\S[^:]*:$")


def _mark(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    marked: list[str] = []
    above, inside = "", False  # The first line of the paragraph above; inside a display.
    for line, previous in zip(lines, ["", *lines], strict=False):
        if not previous:
            opens = not marked and line.startswith("argmin")
            indented = line.startswith("    ") and not _NOT_ABOVE_A_DISPLAY.match(above)
            if opens or (indented and above and not inside):
                marked += [".. code-block:: none", "   :class: display", ""]
            inside = opens or (indented and above != "")
            if line and not line.startswith(" "):
                above = line
        marked.append("    " + line.strip() if inside and line else line)
    lines[:] = marked


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before Napoleon, while sections still look as they do in the source."""
    app.connect("autodoc-process-docstring", _mark, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
