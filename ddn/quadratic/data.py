"""A batch of quadratic programs as matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from ddn.batching import broadcast_shapes

__all__ = ["QuadraticData", "nonzero", "times"]


@dataclass(frozen=True)
class QuadraticData:
    """The matrices of

        argmin_y  ½ yᵀQ y + qᵀy   subject to   A y = b,   G y ≤ h,   l ≤ y ≤ u.

    Batch dimensions broadcast; parts that do not exist are None. Of Q only the symmetric part counts.

    Attributes:
        Q: ``(*batch, n, n)``.
        q: ``(*batch, n)``.
        A: ``(*batch, p, n)``, with b.
        b: ``(*batch, p)``.
        G: ``(*batch, k, n)``, with h.
        h: ``(*batch, k)``; +∞ is no constraint.
        lower: l, ``(*batch, n)``; −∞ is no bound.
        upper: u, ``(*batch, n)``; +∞ is no bound.
    """

    Q: Tensor
    q: Tensor
    A: Tensor | None = None
    b: Tensor | None = None
    G: Tensor | None = None
    h: Tensor | None = None
    lower: Tensor | None = None
    upper: Tensor | None = None

    def parts(self) -> dict[str, Tensor]:
        """The tensors that exist, by name."""
        return {name: value for name in _NAMES if (value := getattr(self, name)) is not None}

    def map(self, function: Callable[[Tensor], Tensor]) -> QuadraticData:
        """Apply a function to every tensor."""
        return QuadraticData(**{name: function(value) for name, value in self.parts().items()})

    def select(self, index: Tensor) -> QuadraticData:
        """Some problems, where tensors have one batch dimension or none."""
        ranks = {"Q": 2, "A": 2, "G": 2}
        return QuadraticData(
            **{
                name: value[index] if value.ndim > ranks.get(name, 1) else value
                for name, value in self.parts().items()
            }
        )

    @property
    def num_variables(self) -> int:
        """n."""
        return self.q.shape[-1]

    @property
    def num_equalities(self) -> int:
        """p."""
        return 0 if self.A is None else self.A.shape[-2]

    @property
    def num_inequalities(self) -> int:
        """k, without bounds."""
        return 0 if self.G is None else self.G.shape[-2]

    @property
    def has_bounds(self) -> bool:
        """Whether there are bounds of any kind."""
        return self.lower is not None or self.upper is not None

    @cached_property
    def symmetric(self) -> Tensor:
        """½ (Q + Qᵀ)."""
        if torch.equal(self.Q, self.Q.mT):
            return self.Q
        return (self.Q + self.Q.mT).mul_(0.5)

    @cached_property
    def diagonal(self) -> Tensor | None:
        """Of a Q that all problems share and that is diagonal, ``(n,)``; None for any other."""
        if self.Q.ndim > 2:
            return None
        diagonal = self.Q.diagonal()
        return diagonal if torch.equal(self.Q, torch.diag(diagonal)) else None

    @cached_property
    def rows(self) -> Tensor:
        """A above G, ``(*batch, p + k, n)``."""
        present = [part for part in (self.A, self.G) if part is not None]
        if not present:
            return self.q.new_zeros(0, self.num_variables)
        if len(present) == 1:
            return present[0]
        batch = broadcast_shapes([part.shape[:-2] for part in present])
        return torch.cat([part.expand(batch + part.shape[-2:]) for part in present], -2)

    @cached_property
    def row_norms(self) -> Tensor:
        """Lengths of the rows of A and G, ``(*batch, p + k)``."""
        norms: Tensor = torch.linalg.vector_norm(self.rows, dim=-1)
        return norms

    @cached_property
    def row_sizes(self) -> Tensor:
        """Absolute values of the rows, ``(*batch, p + k, n)``."""
        return self.rows.abs()

    @cached_property
    def curvature(self) -> Tensor:
        """Largest diagonal entry of Q, which is its largest entry if it is semidefinite, ``(*batch,)``."""
        return self.symmetric.diagonal(dim1=-2, dim2=-1).abs().amax(-1)

    @cached_property
    def right(self) -> Tensor:
        """b above h, ``(*batch, p + k)``."""
        present = [part for part in (self.b, self.h) if part is not None]
        if not present:
            return self.q.new_zeros(0)
        if len(present) == 1:
            return present[0]
        batch = broadcast_shapes([part.shape[:-1] for part in present])
        return torch.cat([part.expand(batch + part.shape[-1:]) for part in present], -1)

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """l and u, of one shape, infinite where there is none."""
        absent = self.q.new_full(self.q.shape[-1:], torch.inf)
        lower = -absent if self.lower is None else self.lower
        upper = absent if self.upper is None else self.upper
        if lower.shape != upper.shape:
            lower, upper = torch.broadcast_tensors(lower, upper)
        return lower, upper

    def objective(self, y: Tensor) -> Tensor:
        """f at y ``(*batch, n)``."""
        return ((times(self.symmetric, y) / 2 + self.q) * y).sum(-1)


_NAMES = tuple(field.name for field in fields(QuadraticData))


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """M v for ``(*batch, r, n)`` and ``(*batch, n)``; a shared matrix meets all vectors at once."""
    if matrix.ndim == 2:
        return vector @ matrix.mT
    # A row times the transposed matrix: faster than a matrix times a column, in batches of small ones.
    return (vector.unsqueeze(-2) @ matrix.mT).squeeze(-2)


def nonzero(size: Tensor) -> Tensor:
    """Sizes to divide by: 1 in place of 0."""
    return size.masked_fill(size == 0, 1)
