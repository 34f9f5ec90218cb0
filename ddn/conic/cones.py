"""The cone of a cone program: a product of blocks, in the order in which Clarabel and CVXPY list them.

* zero: {0}; its dual is everything;
* nonnegative: s ≥ 0; its own dual;
* second-order: ‖s_2..n‖ ≤ s_1; its own dual;
* semidefinite: smat(s) ⪰ 0 with s = (S_11, √2 S_12, S_22, √2 S_13, ...); its own dual;
* exponential: the closure of y e^(x/y) ≤ z, y > 0; its dual is the closure of −u e^(v/u) ≤ e w, u < 0;
* power: Π u_i^α_i ≥ ‖w‖, u ≥ 0, Σ α_i = 1; its dual is Π (v_i/α_i)^α_i ≥ ‖w‖, v ≥ 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any

__all__ = ["Block", "Cone", "Kind"]


class Kind(Enum):
    """The kinds of cone that a block may be."""

    ZERO = "zero"
    NONNEGATIVE = "nonnegative"
    SECOND_ORDER = "second-order"
    SEMIDEFINITE = "semidefinite"
    EXPONENTIAL = "exponential"
    POWER = "power"


@dataclass(frozen=True)
class Block:
    """``count`` neighbouring cones of one kind and one size.

    Attributes:
        kind: which cone.
        start: first row.
        count: number of cones; the zero and the nonnegative cone count their rows.
        size: rows of each cone.
        order: of the matrices of a semidefinite cone; else zero.
        exponents: α of each power cone, ``count`` tuples; else empty.
    """

    kind: Kind
    start: int
    count: int
    size: int
    order: int = 0
    exponents: tuple[tuple[float, ...], ...] = ()

    @property
    def num_rows(self) -> int:
        """Number of rows of the block."""
        return self.count * self.size

    @property
    def rows(self) -> slice:
        """Where the block stands among the rows of the cone program."""
        return slice(self.start, self.start + self.num_rows)


@dataclass(frozen=True)
class Cone:
    """A product of cones.

    Attributes:
        zero: number of equalities.
        nonnegative: number of inequalities.
        second_order: size of every second-order cone.
        semidefinite: order n of every semidefinite cone, which has n (n + 1)/2 rows.
        exponential: number of exponential cones, of three rows each.
        power: exponents α of every power cone, which has one row more than exponents.
    """

    zero: int = 0
    nonnegative: int = 0
    second_order: tuple[int, ...] = ()
    semidefinite: tuple[int, ...] = ()
    exponential: int = 0
    power: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def from_cvxpy(cls, dimensions: Any) -> Cone:
        """The cone that CVXPY describes by its ``ConeDims``."""
        three = tuple((float(alpha), 1.0 - float(alpha)) for alpha in dimensions.p3d)
        general = tuple(tuple(float(alpha) for alpha in alphas) for alphas in dimensions.pnd)
        return cls(
            int(dimensions.zero),
            int(dimensions.nonneg),
            tuple(int(size) for size in dimensions.soc),
            tuple(int(order) for order in dimensions.psd),
            int(dimensions.exp),
            three + general,
        )

    def blocks(self) -> Iterator[Block]:
        """The blocks from the first row to the last; blocks without rows are left out."""
        start = 0
        for block in self._blocks():
            if block[1] and block[2]:
                yield Block(block[0], start, *block[1:])
                start += block[1] * block[2]

    def _blocks(self) -> Iterator[tuple[Kind, int, int, int, tuple[tuple[float, ...], ...]]]:
        yield Kind.ZERO, self.zero, 1, 0, ()
        yield Kind.NONNEGATIVE, self.nonnegative, 1, 0, ()
        for size, cones in groupby(self.second_order):
            yield Kind.SECOND_ORDER, len(list(cones)), size, 0, ()
        for order, cones in groupby(self.semidefinite):
            yield Kind.SEMIDEFINITE, len(list(cones)), order * (order + 1) // 2, order, ()
        yield Kind.EXPONENTIAL, self.exponential, 3, 0, ()
        for length, powers in groupby(self.power, key=len):
            exponents = tuple(powers)
            yield Kind.POWER, len(exponents), length + 1, 0, exponents
