r"""The linear system behind the derivative of a cone program.

The solution (x, z, s) is characterized by

    P x + q + Aᵀz = 0,     A x + s = b,     s = Π_K(s − z).

Let the data change by r_x = −(dP x + dAᵀz + dq) and r_z = db − dA x. With the derivative
D = V diag(δ) Vᵀ of the projection (:mod:`ddn.conic.projection`), the last equation becomes
(I − D) ds = −D dz, and ds = r_z − A dx turns the three equations into

    P dx + Aᵀ dz = r_x,     (I − D) A dx − D dz = (I − D) r_z.

D may have the eigenvalues 0 and 1. In its eigenbasis, with S = diag(√(1 − δ)) Vᵀ and dz = Sᵀ ζ, both cases
need no special care and the system is symmetric, of the kind called quasi-definite:

    [ P    AᵀSᵀ  ] [dx]   [ r_x  ]
    [ S A  −δ    ] [ ζ] = [ S r_z ] .

So (r_x, r_z) ↦ (dx, dz) is symmetric: the same solve gives derivatives in forward and in reverse mode. Where
δ = 1 (constraints that do not bind), the row of S vanishes, and ζ = 0.

s and z are compared after division by their sizes σ, τ. If D̂ belongs to the pair (s/σ, z/τ), then
D has δ = σ δ̂/(τ (1 − δ̂) + σ δ̂) and the same V.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddn.conic.canonical import Data
from ddn.conic.cones import Block
from ddn.conic.linear import QuasiDefinite, equilibrate
from ddn.conic.pattern import Pattern
from ddn.conic.products import symmetric_product
from ddn.conic.projection import projection_derivative

__all__ = ["ConeSystem", "comparable_sizes"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """A block of rows in its eigenbasis: V ``(batch, count, size, size)`` and δ ``(batch, count, size)``."""

    block: Block
    basis: Array | None
    delta: Array
    root: Array

    def to_basis(self, rows: Array) -> Array:
        """S times rows ``(batch, rows of the block, k)``."""
        split = self._split(rows)
        if self.basis is not None:
            split = self.basis.swapaxes(-1, -2) @ split
        return np.asarray((self.root[..., None] * split).reshape(rows.shape))

    def from_basis(self, rows: Array) -> Array:
        """Sᵀ times rows."""
        split = self.root[..., None] * self._split(rows)
        if self.basis is not None:
            split = self.basis @ split
        return np.asarray(split.reshape(rows.shape))

    def _split(self, rows: Array) -> Array:
        return rows.reshape(len(rows), self.block.count, self.block.size, rows.shape[-1])


class ConeSystem:
    """The system at the solutions of a batch of cone programs.

    Args:
        pattern: of the cone program.
        data: its numbers, in units in which they are of order one (:mod:`ddn.conic.scaling`).
        x: solutions, ``(batch, n)``.
        z: multipliers, ``(batch, m)``.
        s: slacks, ``(batch, m)``.
        sizes: of s and z, by which they become comparable; None: found here.
    """

    def __init__(
        self,
        pattern: Pattern,
        data: Data,
        x: Array,
        z: Array,
        s: Array,
        sizes: tuple[Array, Array] | None = None,
    ) -> None:
        self.pattern = pattern
        self.data = data
        sigma, tau = sizes or comparable_sizes(pattern, data, x, z, s)
        self.parts: list[_Part] = []
        for block in pattern.blocks:
            shape = (len(z), block.count, block.size)
            size_s, size_z = sigma[:, :, None], tau[:, :, None]
            point, normal = (part[:, block.rows].reshape(shape) for part in (s, z))
            basis, share = projection_derivative(block, point / size_s, normal / size_z)
            moving, held = size_s * share, size_z * (1 - share)
            delta, kept = moving / (moving + held), held / (moving + held)
            self.parts.append(_Part(block, basis, delta, np.sqrt(kept)))
        entries, scale = equilibrate(pattern, self._entries())
        self.matrices = [
            QuasiDefinite(pattern, *numbers) for numbers in zip(entries, scale, strict=True)
        ]

    def solve(self, right_x: Array, right_z: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """(r_x, r_z) ↦ (dx, dz), and where the system is singular.

        Args:
            right_x: ``(batch, n, k)``.
            right_z: ``(batch, m, k)``.
        """
        pattern, n = self.pattern, self.pattern.program.num_variables
        reduced = [part.to_basis(right_z[:, part.block.rows]) for part in self.parts]
        right = np.concatenate([right_x, *reduced], 1)[:, pattern.order]
        solution = np.empty_like(right)
        singular = np.zeros(len(right), bool)
        for element, matrix in enumerate(self.matrices):
            solution[element, pattern.order], singular[element] = matrix.solve(right[element])
        dz = np.empty_like(right_z)
        for part in self.parts:
            start, stop = part.block.rows.start, part.block.rows.stop
            dz[:, part.block.rows] = part.from_basis(solution[:, n + start : n + stop])
        return solution[:, :n], dz, singular

    def _entries(self) -> Array:
        """Entries of the matrices, ``(batch, entries)``."""
        pattern, data, batch = self.pattern, self.data, len(self.data.q)
        program = pattern.program
        roots = [part.root.reshape(batch, part.block.num_rows) for part in self.parts]
        root = np.concatenate([np.zeros((batch, 0)), *roots], 1)
        flat = pattern.flat_entries
        numbers = [data.P[:, pattern.above], data.A[:, flat] * root[:, program.A_rows[flat]]]
        for group in pattern.groups:
            part = self.parts[group.block]
            shape = (batch, len(group.cones), part.block.size, group.columns.shape[1])
            dense = np.zeros((batch, int(np.prod(shape[1:]))))
            dense[:, group.place] = data.A[:, group.entries]
            turned = dense.reshape(shape)
            if part.basis is not None:
                turned = part.basis[:, group.cones].swapaxes(-1, -2) @ turned
            turned = part.root[:, group.cones, :, None] * turned
            numbers.append(turned.reshape(dense.shape))
        diagonal = np.zeros((batch, pattern.size))
        diagonal[:, program.P_rows[pattern.diagonal]] = data.P[:, pattern.diagonal]
        for part in self.parts:
            rows, n = part.block.rows, program.num_variables
            diagonal[:, n + rows.start : n + rows.stop] = -part.delta.reshape(
                batch, part.block.num_rows
            )
        return np.concatenate([*numbers, diagonal], 1)[:, pattern.sources]


def comparable_sizes(
    pattern: Pattern, data: Data, x: Array, z: Array, s: Array
) -> tuple[Array, Array]:
    """Sizes of s and of z by which they become comparable, ``(batch, 1)`` each.

    In the units of :mod:`ddn.conic.scaling`, where one is the size of what does not vanish.
    """
    product = symmetric_product(pattern.program, data.P, x)
    return _largest(s, x), _largest(z, product)


def _largest(*vectors: Array) -> Array:
    sizes = [np.abs(vector).max(-1, initial=1.0, keepdims=True) for vector in vectors]
    return np.asarray(np.max(sizes, 0))
