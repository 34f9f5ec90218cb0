"""Classifiers that are simplex equiangular tight frames: learned, fixed, or nearest to the class means.

The flagship of :mod:`ddn`: the classifier of a network as the solution of an optimization problem, found
by a declarative node inside training; with the other heads, losses, models and metrics of the
neural-collapse literature.
"""

from ddn_etf import hierarchy, losses, metrics, ufm
from ddn_etf.class_means import ClassMeans, CumulativeAverage, ExponentialAverage
from ddn_etf.frames import simplex_etf
from ddn_etf.heads import (
    FixedETFHead,
    FixedFrameHead,
    HAFrameHead,
    LinearHead,
    NearestETFHead,
    NearestFrameHead,
    NearestHAFrameHead,
    WarmUpHead,
)
from ddn_etf.nearest import NearestETF, NearestFrame
from ddn_etf.replace import replace_head

__all__ = [
    "ClassMeans",
    "CumulativeAverage",
    "ExponentialAverage",
    "FixedETFHead",
    "FixedFrameHead",
    "HAFrameHead",
    "LinearHead",
    "NearestETF",
    "NearestETFHead",
    "NearestFrame",
    "NearestFrameHead",
    "NearestHAFrameHead",
    "WarmUpHead",
    "hierarchy",
    "losses",
    "metrics",
    "replace_head",
    "simplex_etf",
    "ufm",
]
