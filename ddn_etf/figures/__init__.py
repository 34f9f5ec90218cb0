"""Figures of neural collapse: each a function from tensors or records to a Matplotlib figure.

None of them opens a window or needs a display. Colours are told apart with any colour vision, and
lines differ in their dashes as well.
"""

from __future__ import annotations

from ddn_etf.figures.confusion import class_tree, confusion_matrix, hierarchy_confusion_figure
from ddn_etf.figures.cosine_margins import cosine_margin_figure
from ddn_etf.figures.frame_view import (
    animation_gif,
    animation_html,
    frame_animation,
    frame_figure,
    view_basis,
)
from ddn_etf.figures.gram_matrices import cosines, gram_figure
from ddn_etf.figures.iterations import iterations_figure
from ddn_etf.figures.loss_landscape import LandscapeSlice, landscape_figure, landscape_slice
from ddn_etf.figures.style import png
from ddn_etf.figures.training_curves import comparison_figure

__all__ = [
    "LandscapeSlice",
    "animation_gif",
    "animation_html",
    "class_tree",
    "comparison_figure",
    "confusion_matrix",
    "cosine_margin_figure",
    "cosines",
    "frame_animation",
    "frame_figure",
    "gram_figure",
    "hierarchy_confusion_figure",
    "iterations_figure",
    "landscape_figure",
    "landscape_slice",
    "png",
    "view_basis",
]
