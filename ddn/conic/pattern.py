"""What the linear systems of all problems of one cone program share: where their entries stand.

The matrix of :mod:`ddn.conic.system` has the same sparsity pattern for all parameters. Pattern and
elimination order are found once; a batch of matrices is then a batch of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from ddn.conic.canonical import ConeProgram
from ddn.conic.cones import Block, Kind

__all__ = ["Group", "Pattern"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_FLAT = (Kind.ZERO, Kind.NONNEGATIVE)


@dataclass(frozen=True)
class Group:
    """Cones of a block whose rows of A use the same number of columns; their rows are dense in these.

    Attributes:
        block: position among the blocks.
        cones: which cones of the block.
        columns: of A that each cone uses, ``(cones, width)``.
        entries: of A that belong to the cones.
        place: where these stand in ``(cones, size, width)``, flattened.
    """

    block: int
    cones: Index
    columns: Index
    entries: Index
    place: Index


class Pattern:
    """The pattern of the symmetric matrix [P, AᵀSᵀ; S A, −δ] of a cone program.

    Attributes:
        program: the cone program.
        blocks: its blocks of cones.
        flat_entries: entries of A in rows of the zero and the nonnegative cone, which keep their pattern.
        groups: the other rows.
        above: entries of P off the diagonal.
        diagonal: entries of P on the diagonal.
        order: position in the matrix ↦ unknown; x comes first among the unknowns.
        rows: of all entries in that order, column by column.
        columns: of these.
        pointers: first entry of every column.
        sources: for every entry its position among the numbers
            (P above the diagonal, S A flat, S A of the groups, diagonal).
        on_diagonal: positions of the diagonal among the entries.
        signs: 1 for x, −1 for ζ, in that order: of the eigenvalues of a quasi-definite matrix.
    """

    def __init__(self, program: ConeProgram) -> None:
        self.program = program
        self.blocks = tuple(program.cone.blocks())
        n, m = program.num_variables, program.num_rows
        self.size = n + m
        on_diagonal = program.P_rows == program.P_columns
        self.above, self.diagonal = np.flatnonzero(~on_diagonal), np.flatnonzero(on_diagonal)
        flat_rows = sum(block.num_rows for block in self.blocks if block.kind in _FLAT)
        self.flat_entries = np.flatnonzero(program.A_rows < flat_rows)
        self.groups = [
            group
            for position, block in enumerate(self.blocks)
            if block.kind not in _FLAT
            for group in _groups(program, position, block)
        ]
        rows = [program.P_rows[self.above], n + program.A_rows[self.flat_entries]]
        columns = [program.P_columns[self.above], program.A_columns[self.flat_entries]]
        for group in self.groups:
            block = self.blocks[group.block]
            shape = (len(group.cones), block.size, group.columns.shape[1])
            row = block.start + group.cones[:, None] * block.size + np.arange(block.size)
            rows.append(n + np.broadcast_to(row[:, :, None], shape).reshape(-1))
            columns.append(np.broadcast_to(group.columns[:, None, :], shape).reshape(-1))
        self._maxima = {
            name: _Maxima(getattr(program, name), m if name == "A_rows" else n)
            for name in ("P_rows", "P_columns", "A_rows", "A_columns")
        }
        everything = np.arange(self.size)
        first = np.concatenate([*rows, *columns, everything])
        second = np.concatenate([*columns, *rows, everything])
        off = sum(map(len, rows))
        sources = np.concatenate([np.arange(off), np.arange(off), off + everything])
        self.order = _elimination_order(first, second, self.size)
        position = np.argsort(self.order)
        first, second = position[first], position[second]
        sequence = np.lexsort((first, second))
        self.rows, self.columns = first[sequence], second[sequence]
        self.sources = sources[sequence]
        counts = np.bincount(self.columns, minlength=self.size)
        self.pointers = np.concatenate([[0], np.cumsum(counts)])
        self.on_diagonal = np.flatnonzero(self.rows == self.columns)
        self.signs = np.where(self.order < n, 1.0, -1.0)
        # In the integers of the factorization, which would convert them every time.
        self._structure = self.rows.astype(np.intc), self.pointers.astype(np.intc)

    def matrix(self, entries: Array) -> Any:
        """The sparse matrix with these entries."""
        return sparse.csc_array((entries, *self._structure), (self.size, self.size))

    def column_maxima(self, P: Array, A: Array) -> Array:
        """Largest entry of every column of P and A, ``(batch, n)``; entries must not be negative."""
        above, left, A_column = (
            self._maxima[name] for name in ("P_columns", "P_rows", "A_columns")
        )
        return np.maximum(np.maximum(above(P), left(P)), A_column(A))

    def cone_maxima(self, A: Array) -> Array:
        """Largest entry of the rows of every cone, at all of its rows, ``(batch, m)``."""
        result = self._maxima["A_rows"](A)
        for block in self.blocks:
            if block.size > 1:
                part = result[:, block.rows].reshape(len(A), block.count, block.size)
                largest = np.broadcast_to(part.max(-1, keepdims=True), part.shape)
                result[:, block.rows] = largest.reshape(len(A), block.num_rows)
        return result


class _Maxima:
    """The largest of the numbers that have the same index."""

    def __init__(self, index: Index, size: int) -> None:
        self.size = size
        self.sequence = np.argsort(index, kind="stable")
        self.present, self.starts = np.unique(index[self.sequence], return_index=True)

    def __call__(self, numbers: Array) -> Array:
        result = np.zeros((len(numbers), self.size))
        if len(self.sequence):
            ordered = numbers[:, self.sequence]
            result[:, self.present] = np.maximum.reduceat(ordered, self.starts, axis=1)
        return result


def _groups(program: ConeProgram, position: int, block: Block) -> Iterator[Group]:
    """Cones of a block that use equally many columns, together."""
    rows, columns = program.A_rows, program.A_columns
    inside = np.flatnonzero((rows >= block.rows.start) & (rows < block.rows.stop))
    cone, within = np.divmod(rows[inside] - block.start, block.size)
    used = [np.unique(columns[inside[cone == c]]) for c in range(block.count)]
    widths = np.array([len(u) for u in used])
    for width in np.unique(widths):
        cones = np.flatnonzero(widths == width)
        table = np.array([used[c] for c in cones], np.int64).reshape(len(cones), width)
        entries, places = [], []
        for number, c in enumerate(cones):
            mine = inside[cone == c]
            column = np.searchsorted(table[number], columns[mine])
            entries.append(mine)
            places.append((number * block.size + within[cone == c]) * width + column)
        yield Group(position, cones, table, np.concatenate(entries), np.concatenate(places))


def _elimination_order(rows: Index, columns: Index, size: int) -> Index:
    """Unknowns in an order of minimum degree: it depends on the pattern alone."""
    weight = np.where(rows == columns, float(size), 1.0)
    matrix = sparse.csc_array((weight, (rows, columns)), (size, size))
    options = {"SymmetricMode": True}
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    return np.argsort(factors.perm_c)
