"""The problems: random, and the same in every process."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """One batch of random problems.

    Attributes:
        name: title of its table.
        kind: form of the problem, a method of this class.
        batch: number of problems.
        sizes: of one problem.
    """

    name: str
    kind: str
    batch: int
    sizes: tuple[int, ...]

    def inputs(self) -> tuple[Tensor, ...]:
        """What the layers are given, ``(batch, ...)``."""
        generator = torch.Generator().manual_seed(math.prod(self.sizes) + self.batch)
        return getattr(self, self.kind)(generator)

    def cotangent(self, y: Tensor) -> Tensor:
        """A random derivative of the loss by the solution."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(y.shape, generator=generator, dtype=torch.float64)

    def _normal(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.randn(self.batch, *shape, generator=generator, dtype=torch.float64)

    def quadratic(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """argmin ½ yᵀQ y + qᵀy  s.t.  A y = b,  G y ≤ h, with an interior; Q, q, A, b, G, h."""
        n, equalities, inequalities = self.sizes
        root = self._normal(generator, n, n)
        Q = root @ root.mT / n + 0.1 * torch.eye(n, dtype=torch.float64)
        q = self._normal(generator, n)
        A, G = self._normal(generator, equalities, n), self._normal(generator, inequalities, n)
        inside = self._normal(generator, n, 1)
        room = torch.rand(self.batch, inequalities, generator=generator, dtype=torch.float64)
        return Q, q, A, (A @ inside).squeeze(-1), G, (G @ inside).squeeze(-1) + room

    def simplex(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """argmin ½ ‖y − x‖²  s.t.  Σ y = 1,  y ≥ 0; x."""
        return (self._normal(generator, *self.sizes),)

    def entropy(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """argmin Σ y log y − xᵀy  s.t.  Σ y = 1; x."""
        return (self._normal(generator, *self.sizes),)

    def second_order_cone(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """argmin ‖F y − g‖  s.t.  ‖y‖ ≤ ¼; F, g."""
        n, rows = self.sizes
        return self._normal(generator, rows, n), self._normal(generator, rows)

    def semidefinite(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """argmin ‖Y − C‖²  s.t.  diag Y = 1,  Y ⪰ 0; C."""
        (n,) = self.sizes
        C = self._normal(generator, n, n)
        return ((C + C.mT) / 2,)

    def exponential_cone(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """argmin log Σ exp(F y + g) + ½ ‖y‖²; F, g."""
        n, rows = self.sizes
        return self._normal(generator, rows, n), self._normal(generator, rows)


CASES = (
    Case("QP n=20 (5 equalities, 10 inequalities), batch 128", "quadratic", 128, (20, 5, 10)),
    Case("QP n=100 (20, 50), batch 32", "quadratic", 32, (100, 20, 50)),
    Case("QP n=100 (20, 50), batch 1", "quadratic", 1, (100, 20, 50)),
    Case("simplex projection n=50, batch 128, as a QP", "simplex", 128, (50,)),
    Case("entropy n=20, batch 32", "entropy", 32, (20,)),
    Case("second-order cone n=10, batch 1", "second_order_cone", 1, (10, 20)),
    Case("second-order cone n=10, batch 32", "second_order_cone", 32, (10, 20)),
    Case("semidefinite 6×6, batch 1", "semidefinite", 1, (6,)),
    Case("semidefinite 6×6, batch 32", "semidefinite", 32, (6,)),
    Case("exponential cone n=5, 20 terms, batch 1", "exponential_cone", 1, (5, 20)),
    Case("exponential cone n=5, 20 terms, batch 32", "exponential_cone", 32, (5, 20)),
)
