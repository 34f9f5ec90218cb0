"""What an experiment on unconstrained features is: sizes, heads, learning rates, seeds."""

from __future__ import annotations

from dataclasses import dataclass

from ddn_etf.methods import find_methods
from ddn_etf.ufm.checks import check_number
from ddn_etf.ufm.factors import check_model_size
from ddn_etf.ufm.normalized import normalized_lower_bound
from ddn_etf.validation import check_count, check_frame_size

__all__ = ["EXPERIMENTS", "ExperimentSettings"]


@dataclass(frozen=True)
class ExperimentSettings:
    """One size, and what is done with it.

    The gradient of a mean loss is 1/N for a feature and about 1/K for a row of the weight, so the
    learning rates are those numbers times N and times K: then one grid fits all sizes.

    Attributes:
        num_classes: K.
        samples_per_class: n.
        dim: d >= K - 1.
        heads: names of methods (:data:`ddn_etf.methods.METHODS`) that need no hierarchy.
        temperature: τ, the length of the features.
        momentum: of gradient descent, in [0, 1).
        feature_rates: learning rates of the features divided by N.
        weight_rates: learning rates of the head divided by K, for heads that learn.
        gap: how near the lower bound the loss must come.
        max_iterations: steps after which a run is given up.
        hold: for how many further steps the loss must stay within the gap; 0 counts the first step
            that comes within it.
        stable_rates_only: leave out rates of the features at which gradient descent is not stable at
            the start (:func:`largest_stable_rate`).
        seeds: of the runs that are reported.
        tuning_seeds: of the runs that choose the learning rates.
        double: compute in float64 instead of float32.

    Raises:
        TypeError: a size or seed is not an integer, or a rate no number.
        FrameSizeError: K < 2, or d < K - 1.
        ValueError: a number is out of its range, a list is empty, or a head is unknown or needs a
            hierarchy.
    """

    num_classes: int = 10
    samples_per_class: int = 20
    dim: int = 64
    heads: tuple[str, ...] = ("linear", "fixed-etf", "nearest-etf")
    temperature: float = 5.0
    momentum: float = 0.9
    feature_rates: tuple[float, ...] = (0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)
    weight_rates: tuple[float, ...] = (0.25, 0.5, 1, 2, 4)
    gap: float = 1e-2
    max_iterations: int = 200
    hold: int = 0
    stable_rates_only: bool = False
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tuning_seeds: tuple[int, ...] = (100,)
    double: bool = False

    def __post_init__(self) -> None:
        check_frame_size(self.num_classes, self.dim)
        check_model_size(self.num_classes, self.samples_per_class)
        check_count("max_iterations", self.max_iterations, 1)
        check_count("hold", self.hold, 0)
        for method in find_methods(self.heads):
            if method.needs_hierarchy:
                raise ValueError(
                    f"head {method.name!r} follows a hierarchy of the classes, and the classes of "
                    "unconstrained features have none; train it with ddn-etf compare on a data set "
                    "that has one"
                )
        check_number("temperature", self.temperature)
        check_number("gap", self.gap)
        check_number("momentum", self.momentum, inclusive=True)
        if self.momentum >= 1:
            raise ValueError(f"momentum must lie in [0, 1), found {self.momentum}")
        for name in ("feature_rates", "weight_rates", "seeds", "tuning_seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one")
        for name in ("feature_rates", "weight_rates"):
            for value in getattr(self, name):
                check_number(f"each of {name}", value)
        for name in ("seeds", "tuning_seeds"):
            for value in getattr(self, name):
                check_count(f"each of {name}", value, 0)

    @property
    def lower_bound(self) -> float:
        """log(1 + (K-1) e^{-τK/(K-1)})."""
        return normalized_lower_bound(self.num_classes, self.temperature)


EXPERIMENTS: dict[str, ExperimentSettings] = {
    "ufm-10": ExperimentSettings(),
    "ufm-100": ExperimentSettings(num_classes=100, samples_per_class=10, dim=128),
    "ufm-200": ExperimentSettings(num_classes=200, samples_per_class=5, dim=256),
    # A step takes some tenths of a second; the grid is a coarser one.
    "ufm-1000": ExperimentSettings(
        num_classes=1000,
        samples_per_class=2,
        dim=1024,
        feature_rates=(0.5, 2, 8, 16, 32, 64, 128, 256),
        weight_rates=(0.25, 1, 4),
        max_iterations=100,
    ),
}
"""The sizes of the paper; n and d are ours."""
