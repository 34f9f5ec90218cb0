"""Ways to critical points that descent would not show: saddles of every kind.

Descent methods leave strict saddles; these searches look for ∇f = 0 itself, or for minima of a
smaller problem that are critical points of the whole one:

* of fewer features. A critical point of the model with r < d features is one of the whole model when
  it is put into any r-dimensional subspace: ∇_W f = ∇g Hᵀ + λ_W W stays in that subspace.
* of merged classes. Where f is symmetric under permutations that leave a subspace fixed, its gradient
  there lies in that subspace (Palais, "The Principle of Symmetric Criticality", 1979), so a minimum
  among points where some classes share their features and their weights is a critical point of f.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from ddn_etf.ufm.factors import orthonormal
from ddn_etf.ufm.features_model import FeaturesModel
from ddn_etf.ufm.models import UnconstrainedFeatures
from ddn_etf.ufm.solvers import LBFGS

__all__ = [
    "DEFAULT_SEARCHES",
    "EigenvectorFollowing",
    "FewerFeatures",
    "GradientNorm",
    "MergedClasses",
    "Search",
    "solve_stationarity",
]


class Search(Protocol):
    """A way to a critical point from a random start."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def find(self, model: UnconstrainedFeatures, generator: torch.Generator) -> Tensor:
        """A point (size,) where the gradient is small, if the search went well."""
        ...


@dataclass(frozen=True)
class GradientNorm:
    """A zero of ∇f near a random point, by Levenberg and Marquardt's method on ½ ‖∇f‖².

    Attributes:
        scale: of the entries of the random point.
    """

    scale: float

    @property
    def name(self) -> str:
        """With the scale."""
        return f"gradient norm, scale {self.scale:g}"

    def find(self, model: UnconstrainedFeatures, generator: torch.Generator) -> Tensor:
        """What the method converges to; it may be a local minimum of ‖∇f‖ that is no zero."""
        return solve_stationarity(model, model.random_start(generator, self.scale))


@dataclass(frozen=True)
class EigenvectorFollowing:
    """A saddle of a given index: uphill along the lowest eigenvectors, downhill along the others.

        v ← v - Σ_i s_i (x_iᵀ∇f)/max(|λ_i|, ε) x_i,    s_i = -1 for the k lowest eigenvalues λ_i of ∇²f,

    with steps of bounded length (Cerjan and Miller, "On Finding Transition States", 1981), k drawn
    from 0..2d at random for each start, then the method of Levenberg and Marquardt.

    Attributes:
        scale: of the entries of the random start.
        steps: before that method takes over.
        radius: longest step.
    """

    scale: float = 1.0
    steps: int = 60
    radius: float = 0.5

    @property
    def name(self) -> str:
        """What tables call it."""
        return "eigenvector following"

    def find(self, model: UnconstrainedFeatures, generator: torch.Generator) -> Tensor:
        """Steps of a fixed number, then polished."""
        reversed_directions = int(torch.randint(0, 2 * model.dim + 1, (), generator=generator))
        vector = model.random_start(generator, self.scale)
        floor = 1e-2 * math.sqrt(model.weight_decay_W * model.weight_decay_H)
        for _ in range(self.steps):
            gradient = model.value_and_gradient(vector)[1]
            values, vectors = torch.linalg.eigh(model.hessian(vector))
            weights = values.abs().clamp(min=floor)
            weights[:reversed_directions] *= -1
            step = -vectors @ ((vectors.mT @ gradient) / weights)
            vector = vector + step * min(1.0, self.radius / max(step.norm().item(), 1e-300))
        return solve_stationarity(model, vector)


@dataclass(frozen=True)
class FewerFeatures:
    """A minimum of the model with r features, r drawn from 1..K-2, in a random subspace."""

    @property
    def name(self) -> str:
        """What tables call it."""
        return "fewer features"

    def find(self, model: UnconstrainedFeatures, generator: torch.Generator) -> Tensor:
        """LBFGS in r dimensions, then put into d and polished."""
        limit = max(2, min(model.num_classes - 1, model.dim))
        rank = int(torch.randint(1, limit, (), generator=generator))
        small = replace(model, dim=rank)
        found = small.split(LBFGS().minimize(small, small.random_start(generator)).vector)
        P = orthonormal(model.dim, rank, generator)
        return solve_stationarity(
            model, model.join({**found, "W": found["W"] @ P.mT, "H": found["H"] @ P.mT})
        )


@dataclass(frozen=True)
class MergedClasses:
    """A minimum among points where groups of classes share features and weights.

    The groups are random, from 2 to K - 1 of them, of any sizes.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        return "merged classes"

    def find(self, model: UnconstrainedFeatures, generator: torch.Generator) -> Tensor:
        """LBFGS over one representative of each group, then polished in all variables."""
        K, n = model.num_classes, model.samples_per_class
        number = int(torch.randint(2, max(3, K), (), generator=generator))
        groups = torch.randint(0, number, (K,), generator=generator)
        samples = groups.repeat_interleave(n)
        merged = _Merged(**{**vars(model), "groups": groups, "group_of_sample": samples})
        found = LBFGS().minimize(merged, model.random_start(generator)).vector
        return solve_stationarity(model, merged.symmetrize(found))


@dataclass(frozen=True, kw_only=True)
class _Merged(UnconstrainedFeatures):
    """The model as a function of group means: f at the symmetrised point."""

    groups: Tensor
    group_of_sample: Tensor

    def symmetrize(self, vector: Tensor) -> Tensor:
        """Every block replaced by its means over groups."""
        parts = super().split(vector)
        rows = {"W": self.groups, "b": self.groups, "H": self.group_of_sample}
        return self.join({name: _group_means(part, rows[name]) for name, part in parts.items()})

    def objective(self, vector: Tensor) -> Tensor:
        return super().objective(self.symmetrize(vector))


def _group_means(rows: Tensor, groups: Tensor) -> Tensor:
    member = (groups.unsqueeze(0) == groups.unsqueeze(1)).to(rows.dtype)
    return member @ rows / member.sum(dim=1).view(-1, *[1] * (rows.ndim - 1))


DEFAULT_SEARCHES: tuple[Search, ...] = (
    EigenvectorFollowing(0.1),
    EigenvectorFollowing(0.3),
    FewerFeatures(),
    EigenvectorFollowing(1.0),
    MergedClasses(),
    GradientNorm(0.5),
    EigenvectorFollowing(0.3),
    FewerFeatures(),
    GradientNorm(2.0),
    MergedClasses(),
)
"""Taken in turn by :func:`ddn_etf.ufm.landscape.strict_saddle_report`."""


def solve_stationarity(
    model: FeaturesModel, start: Tensor, *, max_evaluations: int = 200
) -> Tensor:
    """argmin_v ½ ‖∇f(v)‖² near ``start``, by the method of Levenberg and Marquardt (SciPy, MINPACK).

    The Jacobian is the dense Hessian; it is singular (solutions come in families), which the damping
    of the method allows for. A result with ∇f ≠ 0 is possible: look at it.

    Args:
        model: any smooth model of moderate size.
        start: (size,).
        max_evaluations: of ∇f.

    Returns:
        (size,), float64.
    """

    def gradient(x: np.ndarray) -> np.ndarray:
        slope: np.ndarray = model.value_and_gradient(torch.from_numpy(x.copy()))[1].numpy()
        return slope

    def jacobian(x: np.ndarray) -> np.ndarray:
        return model.hessian(torch.from_numpy(x.copy())).numpy()

    first = start.detach().to("cpu", torch.float64).numpy()
    result = scipy.optimize.least_squares(
        gradient,
        first,
        jacobian,
        method="lm",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=max_evaluations,
    )
    return torch.from_numpy(np.array(result.x, dtype=np.float64))
