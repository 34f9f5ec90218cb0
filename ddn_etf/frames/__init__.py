"""Frames: K vectors, one per class, as the rows of a matrix (K, d), and what is known of them."""

from __future__ import annotations

from ddn_etf.frames.codes import one_vs_rest_distances, softmax_code
from ddn_etf.frames.orthogonal import orthogonal_frame
from ddn_etf.frames.rotation import FrameFactors, factorize_frame, rotated_copy
from ddn_etf.frames.seli import SELIGeometry, seli_geometry
from ddn_etf.frames.simplex import centering_matrix, simplex_basis, simplex_etf

__all__ = [
    "FrameFactors",
    "SELIGeometry",
    "centering_matrix",
    "factorize_frame",
    "one_vs_rest_distances",
    "orthogonal_frame",
    "rotated_copy",
    "seli_geometry",
    "simplex_basis",
    "simplex_etf",
    "softmax_code",
]
