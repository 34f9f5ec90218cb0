"""What can be chosen for heads that follow the class means, apart from their frame.

:class:`ddn_etf.methods.Method` says which heads these are; :meth:`ddn_etf.methods.Method.with_options`
makes a method of a method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Real

from ddn_etf.class_means import CumulativeAverage, ExponentialAverage, MovingAverage
from ddn_etf.heads.nearest import NearestHeadOptions
from ddn_etf.validation import check_count

__all__ = ["AVERAGES", "HeadOptions"]

AVERAGES: dict[str, MovingAverage] = {
    "exponential": ExponentialAverage(),
    "exponential-per-class": ExponentialAverage(per_class=True),
    "cumulative": CumulativeAverage(),
}
"""How class means are averaged over batches, by the names on the command line."""


@dataclass(frozen=True)
class HeadOptions:
    """Options of :class:`ddn_etf.heads.NearestETFHead` and its relatives, and a warm-up before it.

    Attributes:
        average: how the class means are averaged over batches.
        proximal_weight: δ > 0.
        class_balanced: the global mean is the mean of the class means, for imbalanced data.
        warm_up_epochs: train a learned classifier with unit rows for so many epochs first, while the
            class means are averaged already: :class:`ddn_etf.heads.WarmUpHead`.

    Raises:
        TypeError: an option is of another kind.
        ValueError: a number is out of its range.
    """

    average: MovingAverage = AVERAGES["exponential"]
    proximal_weight: float = 1e-3
    class_balanced: bool = False
    warm_up_epochs: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.average, type) or not hasattr(self.average, "weight"):
            raise TypeError(
                f"average must be an object such as ExponentialAverage(), found {self.average!r}"
            )
        weight = self.proximal_weight
        if not isinstance(weight, Real) or isinstance(weight, bool):
            raise TypeError(f"proximal_weight must be a number, found {weight!r}")
        if not 0 < weight < math.inf:
            raise ValueError(f"proximal_weight must be a positive number, found {weight}")
        if not isinstance(self.class_balanced, bool):
            raise TypeError(f"class_balanced must be True or False, found {self.class_balanced!r}")
        check_count("warm_up_epochs", self.warm_up_epochs, 0)

    def changed(self) -> list[str]:
        """The names of what is not as it is by default."""
        return [each.name for each in fields(self) if getattr(self, each.name) != each.default]

    def of_head(self, temperature: float) -> NearestHeadOptions:
        """The keywords of the head, for features of this length."""
        return {
            "temperature": temperature,
            "average": self.average,
            "proximal_weight": self.proximal_weight,
            "class_balanced": self.class_balanced,
        }
