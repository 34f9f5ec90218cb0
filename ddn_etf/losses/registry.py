"""The losses by their names, with the settings of their sources."""

from __future__ import annotations

from ddn_etf._names import find_named
from ddn_etf.losses.base import Loss
from ddn_etf.losses.center_collapse import CenterCollapse
from ddn_etf.losses.cross_entropy import CrossEntropy
from ddn_etf.losses.dot_regression import DotRegression
from ddn_etf.losses.focal import Focal
from ddn_etf.losses.hierarchy_aware import HierarchyAware
from ddn_etf.losses.label_smoothing import LabelSmoothing
from ddn_etf.losses.squared_error import MeanSquaredError
from ddn_etf.losses.weighted_sum import WeightedSum

__all__ = ["LOSSES", "find_loss"]

LOSSES: dict[str, Loss] = {
    "cross-entropy": CrossEntropy(),
    "mean-squared-error": MeanSquaredError(),
    "label-smoothing": LabelSmoothing(),
    "focal": Focal(),
    "dot-regression": DotRegression(),
    "hierarchy-aware": HierarchyAware(),
    "center-collapse": WeightedSum((CrossEntropy(), CenterCollapse()), (1.0, 1.0)),
}
"""Every loss that can be trained with by name; ``center-collapse`` is added to cross entropy."""


def find_loss(name: str) -> Loss:
    """Look up one loss: an instance, ready to be called with an output and labels.

    Raises:
        TypeError: the name is no text.
        ValueError: the name is not known; the message lists those that are.
    """
    return find_named("loss", name, LOSSES, "known losses")
