"""Problems on spheres and orthonormal matrices: curved equality constraints."""

# ruff: noqa: D102 - the class docstring states the problem; the methods are its hooks

from __future__ import annotations

import torch
from torch import Tensor

from ddn.constraints import SymmetricConstraint, symmetric
from ddn.node import DeclarativeNode
from ddn.testing.problems.draw import Draw
from ddn.testing.problems.formulas import norm, polar_factor
from ddn.testing.problems.known import KnownProblem

__all__ = ["PROBLEMS", "Eigenvector", "GreatCircle", "Procrustes", "SphereProjection"]


class SphereProjection(DeclarativeNode):
    """argmin_y  ½ ‖y − x‖²   subject to   ‖y‖² = r²:  y = r x / ‖x‖.

    Drawn in two dimensions at least: of the two points in one dimension, both are local minima.

    Source: Gould, Hartley and Campbell (2021), section 5.2.
    """

    signature = "(n),()->(n)"

    def objective(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum()

    def equality(self, x: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return (y.square().sum() - r.square()).unsqueeze(0)

    def starting_point(self, x: Tensor, r: Tensor) -> Tensor:
        return x


def _sphere_inputs(draw: Draw) -> tuple[Tensor, ...]:
    x = draw.direction(draw.size + 1) * draw.uniform(0.5, 2.0, 1)
    return draw.scaled(x), draw.scaled(draw.uniform(0.5, 2.0))


def _project_sphere(x: Tensor, r: Tensor) -> Tensor:
    return r.unsqueeze(-1) / norm(x) * x


def _sphere_multipliers(x: Tensor, r: Tensor) -> dict[str, Tensor]:
    # y − x + 2 λ y = 0
    return {"equality_multipliers": (norm(x) / r.unsqueeze(-1) - 1) / 2}


class GreatCircle(DeclarativeNode):
    """argmin_y  cᵀy   subject to   ‖y‖² = 1,  Σ y_i = 0:  y = −P c / ‖P c‖,  P c = c − mean(c).

    The objective is linear: all curvature comes from the constraint.
    """

    signature = "(n)->(n)"

    def objective(self, c: Tensor, y: Tensor) -> Tensor:
        return c @ y

    def equality(self, c: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return y.square().sum() - 1, y.sum()

    def starting_point(self, c: Tensor) -> Tensor:
        centered = c - c.mean()
        return -2 * centered / norm(centered)


def _great_circle_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size + 1
    ramp = torch.arange(n, dtype=torch.float64)
    return (draw.scaled(ramp + draw.uniform(-0.3, 0.3, n)),)


def _centered(c: Tensor) -> tuple[Tensor, Tensor]:
    centered = c - c.mean(-1, keepdim=True)
    return centered, norm(centered)


def _great_circle(c: Tensor) -> Tensor:
    centered, length = _centered(c)
    return -centered / length


def _great_circle_multipliers(c: Tensor) -> dict[str, Tensor]:
    # c + 2 λ_1 y + λ_2 = 0
    _, length = _centered(c)
    return {"equality_multipliers": torch.cat([length / 2, -c.mean(-1, keepdim=True)], -1)}


class Eigenvector(DeclarativeNode):
    """argmin_y  ½ yᵀA y   subject to   ‖y‖² = 1:  the eigenvector of the smallest eigenvalue, Σ y_i > 0.

    ``solve`` chooses the sign; multipliers come from least squares.
    """

    signature = "(n,n)->(n)"

    def objective(self, A: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y @ A @ y)

    def equality(self, A: Tensor, y: Tensor) -> Tensor:
        return y.square().sum().unsqueeze(0) - 1

    def solve(self, A: Tensor) -> Tensor:
        return _eigenvector(A)


def _eigenvector_inputs(draw: Draw) -> tuple[Tensor, ...]:
    n = draw.size
    # The wanted eigenvector is near a constant one, so that its sum is not near zero.
    start = torch.cat([1 + 0.3 * draw.normal(n, 1), draw.normal(n, n - 1)], -1)
    basis = torch.linalg.qr(start).Q
    eigenvalues = draw.uniform(0.5, 1.5, n).cumsum(-1) - 2
    A = (basis * eigenvalues.unsqueeze(-2)) @ basis.mT
    return (draw.scaled((A + A.mT) / 2),)


def _eigenvector(A: Tensor) -> Tensor:
    vector: Tensor = torch.linalg.eigh((A + A.mT) / 2).eigenvectors[..., 0]
    # Not the sign, which is zero for a sum of zero.
    return torch.where(vector.detach().sum(-1, keepdim=True) < 0, -vector, vector)


def _eigenvector_multipliers(A: Tensor) -> dict[str, Tensor]:
    # A y + 2 λ y = 0
    return {"equality_multipliers": -torch.linalg.eigvalsh(A)[..., :1] / 2}


class Procrustes(DeclarativeNode):
    """argmin_V  −tr(CᵀV)   subject to   VᵀV = I:  the orthonormal polar factor of C.

    Source: Schönemann (1966).
    """

    signature = "(m,n)->(m,n)"

    def objective(self, C: Tensor, V: Tensor) -> Tensor:
        return -(C * V).sum()

    def equality(self, C: Tensor, V: Tensor) -> SymmetricConstraint:
        identity = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device)
        return symmetric(V.mT @ V - identity)

    def solve(self, C: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(C, full_matrices=False)
        product: Tensor = left @ right
        return product


PROBLEMS: tuple[KnownProblem, ...] = (
    KnownProblem(
        "sphere_projection",
        SphereProjection,
        _sphere_inputs,
        _project_sphere,
        multipliers=_sphere_multipliers,
    ),
    KnownProblem(
        "great_circle",
        GreatCircle,
        _great_circle_inputs,
        _great_circle,
        multipliers=_great_circle_multipliers,
    ),
    KnownProblem(
        "eigenvector",
        Eigenvector,
        _eigenvector_inputs,
        _eigenvector,
        multipliers=_eigenvector_multipliers,
    ),
    KnownProblem(
        "procrustes",
        Procrustes,
        lambda draw: (draw.scaled(draw.matrix(draw.size, min(draw.size, 3))),),
        polar_factor,
    ),
)
"""The problems of this module."""
