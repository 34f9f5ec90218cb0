"""Minima and saddles of unconstrained features models: how to find them, and how to tell them apart."""

from __future__ import annotations

from ddn_etf.ufm.landscape.certificate import Certificate, certify
from ddn_etf.ufm.landscape.critical_points import (
    CriticalPoint,
    Kind,
    StrictSaddleReport,
    classify,
    strict_saddle_report,
)
from ddn_etf.ufm.landscape.curvature import (
    Eigenpair,
    NegativeCurvature,
    negative_curvature,
    smallest_eigenvalue,
)
from ddn_etf.ufm.landscape.groups import PointGroup, PointRow, group_points, point_row

__all__ = [
    "Certificate",
    "CriticalPoint",
    "Eigenpair",
    "Kind",
    "NegativeCurvature",
    "PointGroup",
    "PointRow",
    "StrictSaddleReport",
    "certify",
    "classify",
    "group_points",
    "negative_curvature",
    "point_row",
    "smallest_eigenvalue",
    "strict_saddle_report",
]
