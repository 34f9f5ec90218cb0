"""Classifiers that are simplex equiangular tight frames: learned, fixed, or nearest to the class means.

The flagship of :mod:`ddn`: the classifier of a network as the solution of an optimization problem, found
by a declarative node inside training.
"""

from ddn_etf import metrics
from ddn_etf.class_means import ClassMeans, CumulativeAverage, ExponentialAverage
from ddn_etf.frames import simplex_etf
from ddn_etf.heads import FixedETFHead, LinearHead, NearestETFHead
from ddn_etf.nearest import NearestETF, NearestFrame

__all__ = [
    "ClassMeans",
    "CumulativeAverage",
    "ExponentialAverage",
    "FixedETFHead",
    "LinearHead",
    "NearestETF",
    "NearestETFHead",
    "NearestFrame",
    "metrics",
    "simplex_etf",
]
