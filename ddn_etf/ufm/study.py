"""What a solver makes of a model from a random start: value, certificate, collapse, iterations."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

import ddn_etf.ufm.solvers
from ddn_etf.metrics import SplitStatistics, nc1, nc2, nc3, nc4
from ddn_etf.ufm.activations import Linear
from ddn_etf.ufm.checks import check_number
from ddn_etf.ufm.features_model import FeaturesModel
from ddn_etf.ufm.known_minima import closed_form
from ddn_etf.ufm.landscape.certificate import certify
from ddn_etf.ufm.models import UnconstrainedFeatures
from ddn_etf.ufm.solvers import Minimization
from ddn_etf.validation import check_count

__all__ = ["MinimizationRun", "minimize_once"]

_NC_METRICS = ("NC1", "NC2", "NC3", "NC4")


@dataclass(frozen=True)
class MinimizationRun:
    """Where one run ended; a row of the table.

    Attributes:
        seed: of the random start.
        value: f at the end; NaN if the run diverged.
        excess: f minus the closed form (:func:`ddn_etf.ufm.closed_form`); None where there is none.
        gradient_norm: ‖∇f‖₂.
        converged: whether that is within the solver's tolerance.
        iterations: steps taken; None if the run diverged.
        spectral_excess: ‖∇_Z g‖₂/√(λ_Wλ_H) - 1; None for two layers or ReLU.
        gap: f minus the lower bound of the certificate; None likewise.
        is_global: whether the point is certified as a global minimum; None likewise.
        NC1: tr(Σ_W Σ_B⁺)/K of what the last layer sees; like the following ones NaN where it is not
            defined, as at zero.
        NC2: distance of W Wᵀ from a simplex.
        NC3: distance of W H̃ from a simplex.
        NC4: ‖W μ_G + b‖.
        seconds: of the solver.
    """

    seed: int
    value: float
    excess: float | None
    gradient_norm: float
    converged: bool
    iterations: int | None
    spectral_excess: float | None
    gap: float | None
    is_global: bool | None
    NC1: float
    NC2: float
    NC3: float
    NC4: float
    seconds: float


def minimize_once(
    model: FeaturesModel, solver: ddn_etf.ufm.solvers.Solver, seed: int, *, scale: float = 1.0
) -> tuple[MinimizationRun, tuple[float, ...]]:
    """One run, and f at its start and after every step.

    Args:
        model: what is minimised.
        solver: by what.
        seed: of the start, whose entries are independent N(0, scale²).
        scale: > 0.

    Returns:
        The row, and the values. They are empty if the run diverged.

    Raises:
        TypeError, ValueError: a seed or scale out of its range.
    """
    check_count("seed", seed, 0)
    check_number("scale", scale)
    start = model.random_start(torch.Generator().manual_seed(seed), scale)
    began = time.perf_counter()
    try:
        found = solver.minimize(model, start)
    except FloatingPointError:
        return _diverged(seed, time.perf_counter() - began), ()
    seconds = time.perf_counter() - began
    return _describe(model, found, seed, seconds), found.history


def _describe(
    model: FeaturesModel, found: Minimization, seed: int, seconds: float
) -> MinimizationRun:
    known = closed_form(model)
    spectral_excess = gap = is_global = None
    if isinstance(model, UnconstrainedFeatures) and model.activation == Linear():
        certificate = certify(model, found.vector)
        spectral_excess, gap = certificate.excess, certificate.gap
        is_global = certificate.is_global
    return MinimizationRun(
        seed=seed,
        value=found.value,
        excess=None if known is None else found.value - float(known),
        gradient_norm=found.gradient_norm,
        converged=found.converged,
        iterations=found.iterations,
        spectral_excess=spectral_excess,
        gap=gap,
        is_global=is_global,
        **_collapse(model, found),
        seconds=seconds,
    )


def _collapse(model: FeaturesModel, found: Minimization) -> dict[str, float]:
    parts = model.split(found.vector.to(torch.float64))
    features, weight = model.last_layer(parts)
    statistics = SplitStatistics.from_features(features, model.labels(), model.num_classes)
    values = (
        nc1(statistics),
        nc2(weight),
        nc3(statistics, weight),
        nc4(statistics, weight, parts.get("b")),
    )
    return dict(zip(_NC_METRICS, (value.item() for value in values), strict=True))


def _diverged(seed: int, seconds: float) -> MinimizationRun:
    return MinimizationRun(
        seed=seed,
        value=math.nan,
        excess=None,
        gradient_norm=math.nan,
        converged=False,
        iterations=None,
        spectral_excess=None,
        gap=None,
        is_global=None,
        **dict.fromkeys(_NC_METRICS, math.nan),
        seconds=seconds,
    )
