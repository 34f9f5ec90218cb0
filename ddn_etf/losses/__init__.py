"""Losses of a head's output: ``loss(head.outputs(features, labels), labels)`` is one number.

Each is a frozen object with its settings; see :class:`Loss` for what a new one must be, and
:class:`WeightedSum` for several at once.
"""

from __future__ import annotations

from ddn_etf.losses.base import CheckedLoss, Loss
from ddn_etf.losses.center_collapse import CenterCollapse
from ddn_etf.losses.cross_entropy import CrossEntropy
from ddn_etf.losses.dot_regression import DotRegression
from ddn_etf.losses.focal import Focal
from ddn_etf.losses.hierarchy_aware import HierarchyAware
from ddn_etf.losses.label_smoothing import LabelSmoothing
from ddn_etf.losses.learned import LearnedClassifierWarning
from ddn_etf.losses.registry import LOSSES, find_loss
from ddn_etf.losses.squared_error import MeanSquaredError
from ddn_etf.losses.weighted_sum import WeightedSum

__all__ = [
    "LOSSES",
    "CenterCollapse",
    "CheckedLoss",
    "CrossEntropy",
    "DotRegression",
    "Focal",
    "HierarchyAware",
    "LabelSmoothing",
    "LearnedClassifierWarning",
    "Loss",
    "MeanSquaredError",
    "WeightedSum",
    "find_loss",
]
