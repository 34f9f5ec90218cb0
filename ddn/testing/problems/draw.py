"""Random data for a batch of problems, from one generator and in one unit of measurement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.testing.problems.formulas import norm

__all__ = ["Draw"]


@dataclass(frozen=True)
class Draw:
    """Draws numbers ``(*batch, *core)`` in float64.

    Attributes:
        generator: where randomness comes from.
        size: of the problem, at least 1; usually n.
        batch: batch shape.
        scale: the unit of the data, positive, ``(*batch,)``.
    """

    generator: torch.Generator
    size: int
    batch: tuple[int, ...]
    scale: Tensor

    def shared(self) -> Draw:
        """For data that all problems of the batch share: without batch dimensions, in unit 1."""
        return Draw(self.generator, self.size, (), self.scale.new_ones(()))

    def scaled(self, value: Tensor, power: float = 1.0) -> Tensor:
        """``value · scale^power``."""
        core = value.ndim - len(self.batch)
        return value * self.scale.reshape((*self.batch, *(1,) * core)) ** power

    def normal(self, *core: int) -> Tensor:
        """Standard normal."""
        shape = (*self.batch, *core)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, low: float, high: float, *core: int) -> Tensor:
        """Between ``low`` and ``high``."""
        shape = (*self.batch, *core)
        unit = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * unit

    def choice(self, *core: int) -> Tensor:
        """Booleans, each true with probability one half."""
        return self.uniform(0, 1, *core) < 0.5

    def some(self, n: int) -> Tensor:
        """Booleans ``(*batch, n)``, at least one true in every problem."""
        forced = torch.randint(n, (*self.batch, 1), generator=self.generator)
        return self.choice(n).scatter(-1, forced, True)

    def away_from_zero(self, *core: int) -> Tensor:
        """Of either sign, between 0.2 and 2 in size: never near a kink at zero."""
        size = self.uniform(0.2, 2.0, *core)
        return torch.where(self.choice(*core), size, -size)

    def matrix(self, rows: int, columns: int) -> Tensor:
        """Singular values between 0.5 and 2, singular vectors at random."""
        k = min(rows, columns)
        left = self.orthonormal(rows, k) * self.uniform(0.5, 2.0, k).unsqueeze(-2)
        return left @ self.orthonormal(columns, k).mT

    def positive_definite(self, n: int) -> Tensor:
        """Symmetric, eigenvalues between 0.5 and 2."""
        basis = self.orthonormal(n, n)
        return _symmetric((basis * self.uniform(0.5, 2.0, n).unsqueeze(-2)) @ basis.mT)

    def orthonormal(self, rows: int, columns: int) -> Tensor:
        """Orthonormal columns, ``columns ≤ rows``."""
        basis: Tensor = torch.linalg.qr(self.normal(rows, columns)).Q
        return basis

    def direction(self, n: int) -> Tensor:
        """A vector of length 1."""
        value = self.normal(n)
        return value / norm(value)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2
