"""Critical points as rows of a table, and those that are alike as one row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from ddn_etf.ufm.landscape.critical_points import CriticalPoint, Kind

__all__ = ["PointGroup", "PointRow", "group_points", "point_row"]


@dataclass(frozen=True)
class PointRow:
    """The evidence for the kind of one critical point.

    Attributes:
        kind: the words of :class:`Kind`.
        value: f.
        gradient_norm: ‖∇f‖₂.
        spectral_excess: ‖∇_Z g‖₂/√(λ_Wλ_H) - 1.
        gap: f minus the lower bound of the certificate.
        smallest_eigenvalue: of ∇²f.
        index: number of negative eigenvalues; None for large models.
        rank: of W.
        source: the search that found it.
    """

    kind: str
    value: float
    gradient_norm: float
    spectral_excess: float
    gap: float
    smallest_eigenvalue: float
    index: int | None
    rank: int
    source: str


@dataclass(frozen=True)
class PointGroup:
    """Critical points with the same value, rank, index and kind.

    Attributes:
        value: f of the first of them.
        rank: of W.
        index: number of negative eigenvalues; None for large models.
        smallest_eigenvalue: the largest of the group, so that all are at most that.
        kind: of all of them.
        count: how many there are.
        sources: the searches that found them.
    """

    value: float
    rank: int
    index: int | None
    smallest_eigenvalue: float
    kind: Kind
    count: int
    sources: tuple[str, ...]


def point_row(point: CriticalPoint) -> PointRow:
    """The row of one point."""
    return PointRow(
        kind=point.kind.value,
        value=point.value,
        gradient_norm=point.gradient_norm,
        spectral_excess=point.certificate.excess,
        gap=point.certificate.gap,
        smallest_eigenvalue=point.smallest_eigenvalue,
        index=point.index,
        rank=point.rank,
        source=point.source,
    )


def group_points(points: Iterable[CriticalPoint], *, digits: int = 6) -> tuple[PointGroup, ...]:
    """Groups of points whose values agree in ``digits`` decimals, the lowest value first."""

    def key(point: CriticalPoint) -> tuple[float, int, int, str]:
        index = -1 if point.index is None else point.index
        return round(point.value, digits), point.rank, index, point.kind.value

    groups = []
    for _, members in itertools.groupby(sorted(points, key=key), key):
        same = list(members)
        first = same[0]
        groups.append(
            PointGroup(
                value=first.value,
                rank=first.rank,
                index=first.index,
                smallest_eigenvalue=max(point.smallest_eigenvalue for point in same),
                kind=first.kind,
                count=len(same),
                sources=tuple(sorted({point.source for point in same})),
            )
        )
    return tuple(groups)
