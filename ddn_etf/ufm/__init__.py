"""Unconstrained features models: closed-form minima, solvers, and the landscape between them.

The features of the last hidden layer are free variables: what neural collapse is made of, without
the network. Zhu et al. (2021) and Tirer and Bruna (2022) have found the global minima of these
models; this package has them in closed form, reaches them by three solvers, and certifies or
refutes that a point is one.
"""

from __future__ import annotations

from ddn_etf.ufm import landscape
from ddn_etf.ufm.activations import Activation, Linear, ReLU
from ddn_etf.ufm.biases import Bias, FreeBias, NoBias, RegularizedBias
from ddn_etf.ufm.cross_entropy import CrossEntropyMinimum, cross_entropy_minimum
from ddn_etf.ufm.extended import ExtendedMinimizer, ExtendedMinimum, extended_minimum
from ddn_etf.ufm.factors import Minimizer
from ddn_etf.ufm.features_model import Block, FeaturesModel
from ddn_etf.ufm.known_minima import ClosedForm, Standing, closed_form
from ddn_etf.ufm.losses import CrossEntropy, DataTerm, MeanSquaredError
from ddn_etf.ufm.mean_squared_error import MeanSquaredErrorMinimum, mean_squared_error_minimum
from ddn_etf.ufm.models import ExtendedUnconstrainedFeatures, UnconstrainedFeatures
from ddn_etf.ufm.normalized import normalized_lower_bound
from ddn_etf.ufm.solvers import LBFGS, GradientDescent, Minimization, Solver, TrustRegion
from ddn_etf.ufm.study import MinimizationRun, minimize_once

__all__ = [
    "LBFGS",
    "Activation",
    "Bias",
    "Block",
    "ClosedForm",
    "CrossEntropy",
    "CrossEntropyMinimum",
    "DataTerm",
    "ExtendedMinimizer",
    "ExtendedMinimum",
    "ExtendedUnconstrainedFeatures",
    "FeaturesModel",
    "FreeBias",
    "GradientDescent",
    "Linear",
    "MeanSquaredError",
    "MeanSquaredErrorMinimum",
    "Minimization",
    "MinimizationRun",
    "Minimizer",
    "NoBias",
    "ReLU",
    "RegularizedBias",
    "Solver",
    "Standing",
    "TrustRegion",
    "UnconstrainedFeatures",
    "closed_form",
    "cross_entropy_minimum",
    "extended_minimum",
    "landscape",
    "mean_squared_error_minimum",
    "minimize_once",
    "normalized_lower_bound",
]
