"""What kind of critical point is this: a global minimum, a strict saddle, or neither?

Theory knows no third kind (Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained
Features", 2021, theorem 3.2, for d > K), so a report on many critical points is a test of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import cycle, pairwise

import torch
from torch import Tensor

from ddn_etf.ufm.checks import check_number, check_object
from ddn_etf.ufm.landscape.certificate import Certificate, certify, require_linear_layer
from ddn_etf.ufm.landscape.curvature import smallest_eigenvalue
from ddn_etf.ufm.landscape.search import DEFAULT_SEARCHES, Search
from ddn_etf.ufm.models import UnconstrainedFeatures
from ddn_etf.validation import check_count

__all__ = ["CriticalPoint", "Kind", "StrictSaddleReport", "classify", "strict_saddle_report"]

_DENSE = 1500


class Kind(Enum):
    """What a critical point is, decided by two numbers that are measured."""

    GLOBAL_MINIMUM = "global minimum"
    """The spectral certificate holds."""

    STRICT_SADDLE = "strict saddle"
    """It does not, and the Hessian has a negative eigenvalue."""

    UNDECIDED = "undecided"
    """It does not, and there is no negative eigenvalue beyond rounding: a counterexample, if any."""


@dataclass(frozen=True, eq=False)
class CriticalPoint:
    """One critical point with the evidence for its kind.

    Attributes:
        vector: the point (size,).
        certificate: value, gradient, spectral norm and lower bound.
        smallest_eigenvalue: of ∇²f, by the Lanczos method.
        index: number of negative eigenvalues of ∇²f; None for models of more than 1500 variables.
        rank: of W, relative to 1e-6.
        kind: what follows.
        source: how it was found.
    """

    vector: Tensor
    certificate: Certificate
    smallest_eigenvalue: float
    index: int | None
    rank: int
    kind: Kind
    source: str = ""

    @property
    def value(self) -> float:
        """f."""
        return self.certificate.value

    @property
    def gradient_norm(self) -> float:
        """‖∇f‖₂."""
        return self.certificate.gradient_norm


@dataclass(frozen=True, eq=False)
class StrictSaddleReport:
    """Critical points from many starts.

    Attributes:
        points: all that were found, in that order.
        attempts: searches made; the others ended where the gradient is not zero.
    """

    points: tuple[CriticalPoint, ...]
    attempts: int

    def of_kind(self, kind: Kind) -> tuple[CriticalPoint, ...]:
        """The points of one kind."""
        return tuple(point for point in self.points if point.kind is kind)

    @property
    def counterexamples(self) -> tuple[CriticalPoint, ...]:
        """Points that are neither a certified minimum nor a strict saddle; theory says none."""
        return self.of_kind(Kind.UNDECIDED)

    def distinct_values(self, tolerance: float = 1e-7) -> int:
        """How many different values f takes, a measure of how diverse the points are."""
        values = sorted(point.value for point in self.points)
        new = sum(later - earlier > tolerance for earlier, later in pairwise(values))
        return new + 1 if values else 0


def classify(
    model: UnconstrainedFeatures,
    vector: Tensor,
    *,
    gradient_tolerance: float = 1e-6,
    eigenvalue_tolerance: float = 1e-6,
    source: str = "",
) -> CriticalPoint:
    """The kind of one critical point.

    A global minimum is one that :attr:`Certificate.is_global` says, to 1e-6: ‖∇_Z g‖₂ <= √(λ_Wλ_H) and a
    value at its lower bound. A strict saddle has an eigenvalue of ∇²f below minus
    ``eigenvalue_tolerance`` times √(λ_Wλ_H).

    Args:
        model: without ReLU.
        vector: the point, (size,). It is read in float64.
        gradient_tolerance: ‖∇f‖₂ up to which it counts as critical, relative to √(λ_Wλ_H).
        eigenvalue_tolerance: see above.
        source: kept in the result.

    Raises:
        TypeError: a model with two layers or ReLU.
        ValueError: no critical point, NaN or infinity, or a tolerance that is not a positive number.
        SolveError: the Lanczos method has not converged.
    """
    check_number("eigenvalue_tolerance", eigenvalue_tolerance)
    certificate = certify(model, vector, gradient_tolerance=gradient_tolerance)
    if not certificate.is_critical:
        raise ValueError(
            f"the gradient has norm {certificate.gradient_norm:.2e}, above {gradient_tolerance:.1e} "
            f"times √(λ_Wλ_H) = {certificate.threshold:.2e}: no critical point; polish it with "
            "landscape.search.solve_stationarity()"
        )
    vector = vector.detach().to(torch.float64)
    smallest = smallest_eigenvalue(model, vector).value
    least = -eigenvalue_tolerance * certificate.threshold
    index = None
    if model.size <= _DENSE:
        index = int((torch.linalg.eigvalsh(model.hessian(vector)) < least).sum())
    if certificate.is_global:
        kind = Kind.GLOBAL_MINIMUM
    else:
        kind = Kind.STRICT_SADDLE if smallest < least else Kind.UNDECIDED
    spectrum = torch.linalg.svdvals(model.split(vector)["W"])
    rank = int((spectrum > 1e-6 * max(1.0, spectrum[0].item())).sum())
    return CriticalPoint(vector, certificate, smallest, index, rank, kind, source)


def strict_saddle_report(
    model: UnconstrainedFeatures,
    count: int = 100,
    *,
    searches: Iterable[Search] = DEFAULT_SEARCHES,
    seed: int = 0,
    gradient_tolerance: float = 1e-6,
    max_attempts: int | None = None,
    on_point: Callable[[CriticalPoint], None] | None = None,
) -> StrictSaddleReport:
    """Find critical points by several searches in turn, each from its own random start, and classify them.

    Args:
        model: without ReLU.
        count: number of critical points wanted.
        searches: ways to a critical point (:mod:`ddn_etf.ufm.landscape.search`).
        seed: decides all random numbers.
        gradient_tolerance: ‖∇f‖₂ up to which a point counts as critical, relative to √(λ_Wλ_H).
        max_attempts: give up after so many searches; 10 ``count`` if not given.
        on_point: called with every critical point as soon as it is classified.

    Raises:
        TypeError: a model with two layers or ReLU, or a search that is a class.
        ValueError: no search given, or ``count`` or ``max_attempts`` below 1.
        SolveError: the Lanczos method has not converged.
    """
    require_linear_layer(model)
    check_count("count", count, 1)
    searches = tuple(searches)
    for search in searches:
        check_object("search", search, ("name", "find"), "the objects of landscape.search")
    if not searches:
        raise ValueError("no search given; DEFAULT_SEARCHES has several")
    generator = torch.Generator().manual_seed(seed)
    points: list[CriticalPoint] = []
    limit = 10 * count if max_attempts is None else max_attempts
    check_count("max_attempts", limit, 1)
    attempts = 0
    for search in cycle(searches):
        if len(points) >= count or attempts >= limit:
            break
        attempts += 1
        vector = search.find(model, generator)
        if certify(model, vector, gradient_tolerance=gradient_tolerance).is_critical:
            point = classify(
                model, vector, gradient_tolerance=gradient_tolerance, source=search.name
            )
            points.append(point)
            if on_point is not None:
                on_point(point)
    return StrictSaddleReport(tuple(points), attempts)
