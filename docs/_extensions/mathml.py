"""Formulas as MathML, which browsers set themselves.

The pages need no script from elsewhere, and a formula that cannot be read is a warning of the
build. The conversion is that of Docutils.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

__all__ = ["setup"]

logger = logging.getLogger(__name__)

# What TeX reads and the conversion gets wrong: arguments without braces, starred operators.
_MISREAD = re.compile(r"\\[dt]?frac\s*[^{\s]|\\sqrt\s*[^{\[\s]|\\operatorname\*")

# TeX sets a thin space between the name of a function and an argument without parentheses.
_APPLICATION = re.compile(r"<mo>&ApplyFunction;</mo>(?!\s*<mo[^>]*>[(\[])")
_THIN_SPACE = '<mspace width="0.17em"></mspace>'

# A norm's two signs have one size: browsers would stretch only the left one.
_NORM = re.compile(r'<mo( class="[^"]*")?>‖</mo>')


def _visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_convert(node, as_block=False))
    raise nodes.SkipNode


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    formula = _convert(node, as_block=True)
    translator.body.append(f"{translator.starttag(node, 'div', CLASS='math')}{formula}</div>\n")
    raise nodes.SkipNode


def _convert(node: nodes.Element, *, as_block: bool) -> str:
    formula = node.astext()
    try:
        if misread := _MISREAD.search(formula):
            raise MathError(f"{misread.group()} is not supported here")
        markup = tex2mathml(formula, as_block=as_block)
        markup = _APPLICATION.sub(rf"\g<0>{_THIN_SPACE}", markup)
        return _NORM.sub(r'<mo\1 stretchy="false">‖</mo>', markup)
    except MathError as error:
        logger.warning("cannot convert the formula %s: %s", formula, error, location=node)
        return ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer as ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
