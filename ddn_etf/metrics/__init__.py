"""How far features and classifier have collapsed, and how bad mistakes are.

All are computed in float64, without gradient, on one whole split in evaluation mode.
:func:`neural_collapse` gives all of them by name; each is a function of its own as well.
Where classes have a hierarchy, :func:`hierarchical_metrics` does the same for mistakes.
"""

from __future__ import annotations

from ddn_etf.metrics.classification import accuracy, cosine_margins, ncc_mismatch
from ddn_etf.metrics.collapse import neural_collapse
from ddn_etf.metrics.distance import distance_to_nearest_etf, nearest_simplex_etf, squared_distance
from ddn_etf.metrics.geometry import equinorm, nc2, nc3, nc4
from ddn_etf.metrics.hierarchical import (
    conditional_risk,
    hierarchical_distance,
    hierarchical_metrics,
    hierarchical_precision,
    mistake_severity,
)
from ddn_etf.metrics.statistics import SplitStatistics
from ddn_etf.metrics.variability import nc1, numerical_rank, variability_collapse_index

__all__ = [
    "SplitStatistics",
    "accuracy",
    "conditional_risk",
    "cosine_margins",
    "distance_to_nearest_etf",
    "equinorm",
    "hierarchical_distance",
    "hierarchical_metrics",
    "hierarchical_precision",
    "mistake_severity",
    "nc1",
    "nc2",
    "nc3",
    "nc4",
    "ncc_mismatch",
    "nearest_simplex_etf",
    "neural_collapse",
    "numerical_rank",
    "squared_distance",
    "variability_collapse_index",
]
