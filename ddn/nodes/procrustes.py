"""The orthogonal Procrustes problem: the nearest matrix with orthonormal columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddn.constraints import SymmetricConstraint, symmetric
from ddn.errors import ShapeError
from ddn.failure import apply_policy, format_indices
from ddn.node import DeclarativeNode
from ddn.polar import PolarFactor, polar_decompose, polar_pull_back
from ddn.solvers.manifolds import import_pymanopt

__all__ = ["OrthogonalProcrustes", "orthogonal_procrustes", "stiefel", "unique_polar_factor"]


class OrthogonalProcrustes(DeclarativeNode):
    """argmin_V  ½ ‖V − C‖²   subject to   VᵀV = I,   which is the orthogonal polar factor of C.

    The same V maximizes tr(VᵀC). The rotation R with A R ≈ B, argmin_R ‖A R − B‖² s.t. RᵀR = I for
    square R, is that of C = AᵀB.

    Shapes: C ``(*batch, d, r)`` with d ≥ r; returns ``(*batch, d, r)``. Cost O(d r² + r³); singular values
    may repeat.

    Raises:
        SolveError: where C is rank-deficient to rounding, so that V is not unique, or not finite (with
            ``on_failure="raise"``). With ``"warn"`` one of the minimizers is returned, and directions in
            which it is free count as zero in the gradient.
        ShapeError: if d < r.

    Source: Schönemann (1966); Higham (1986). Derivative: :func:`ddn.polar.polar_pull_back`.
    """

    signature = "(d,r)->(d,r)"

    def objective(self, C: Tensor, V: Tensor) -> Tensor:
        return 0.5 * (V - C).square().sum()

    def equality(self, C: Tensor, V: Tensor) -> SymmetricConstraint:
        return symmetric(V.mT @ V - torch.eye(V.shape[-1], dtype=V.dtype, device=V.device))

    def solve_and_save(self, C: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        polar = unique_polar_factor(C, type(self).__name__, self.on_failure)
        return polar.factor, polar[1:]

    def vjp(self, inputs: tuple[Tensor], y: Tensor, grad_y: Tensor, *saved: Tensor) -> Tensor:
        (C,) = inputs
        saved = saved or polar_decompose(C.detach())[1:]
        return polar_pull_back(C, y, grad_y, *saved)

    def manifold(self, shape: torch.Size) -> Any:
        """The Stiefel manifold, for :class:`ddn.solvers.Pymanopt`."""
        return stiefel(shape)


def orthogonal_procrustes(C: Tensor) -> Tensor:
    """:class:`OrthogonalProcrustes` as a function."""
    result: Tensor = OrthogonalProcrustes()(C)
    return result


def unique_polar_factor(C: Tensor, name: str, on_failure: str) -> PolarFactor:
    """Polar decomposition of ``(*batch, d, r)``; problems whose factor is not unique follow the policy.

    Raises:
        ShapeError: if d < r.
        SolveError: where C is rank-deficient to rounding or not finite (with ``on_failure="raise"``).
    """
    rows, columns = C.shape[-2:]
    if rows < columns:
        raise ShapeError(
            f"{name}: {columns} orthonormal columns do not fit into {rows} dimensions; C has shape "
            f"{tuple(C.shape)}. It needs at least as many rows as columns."
        )
    try:
        polar = polar_decompose(C)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        # LAPACK refuses NaN and infinity, for the whole batch: solve the rest.
        finite = C.isfinite().all(-1).all(-1)[..., None, None]
        polar = polar_decompose(torch.where(finite, C, 0))
    # The dtype of C limits what is known of its smallest singular value. NaN compares false.
    threshold = 8 * torch.finfo(C.dtype).eps * polar.values.amax(-1)
    failed = ~(polar.values.amin(-1) > threshold)
    (factor,) = apply_policy(
        on_failure,
        failed,
        lambda: (
            f"{name}: the matrix whose orthogonal polar factor is sought is rank-deficient or not finite "
            f"for {format_indices(failed)}, so that the minimizer is not unique. Add a proximal term, "
            "use on_failure='warn' (any minimizer, minimum-norm gradient) or on_failure='nan'."
        ),
        (polar.factor,),
    )
    return polar._replace(factor=factor)


def stiefel(shape: torch.Size) -> Any:
    """Pymanopt's manifold of matrices ``(d, r)`` with orthonormal columns."""
    return import_pymanopt().manifolds.Stiefel(*shape)
