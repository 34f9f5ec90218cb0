"""Hierarchies of classes, and the frames whose angles follow them.

:class:`Hierarchy` holds a tree over the classes and gives their distances;
:func:`hierarchy_aware_frame` turns distances into a classifier (Liang and Davis, 2023). The heads
that use it are :class:`ddn_etf.heads.HAFrameHead` and :class:`ddn_etf.heads.NearestHAFrameHead`,
its loss is :class:`ddn_etf.losses.HierarchyAware`, and the metrics of mistakes are in
:mod:`ddn_etf.metrics.hierarchical`.
"""

from __future__ import annotations

from ddn_etf.hierarchy.errors import HierarchyError
from ddn_etf.hierarchy.feature_transform import FeatureTransform
from ddn_etf.hierarchy.frame import class_cosines, hierarchy_aware_frame, smallest_shift
from ddn_etf.hierarchy.known import balanced_hierarchy, cifar100_superclasses, digit_shapes
from ddn_etf.hierarchy.tree import Hierarchy

__all__ = [
    "FeatureTransform",
    "Hierarchy",
    "HierarchyError",
    "balanced_hierarchy",
    "cifar100_superclasses",
    "class_cosines",
    "digit_shapes",
    "hierarchy_aware_frame",
    "smallest_shift",
]
