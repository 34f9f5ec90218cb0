"""The orthogonal polar factor of a tall matrix, without a singular value decomposition of it.

    polar(C) = argmin_V ‖V − C‖_F  s.t.  VᵀV = I   =  C (CᵀC)^{-1/2}   =  P Qᵀ for the thin SVD C = P Σ Qᵀ

(Fan and Hoffman 1955; Higham 1986). Everything comes from the r×r Gram matrix CᵀC = Q Σ² Qᵀ.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddn.sylvester import divide_right, reciprocal, solve_sylvester

__all__ = ["PolarFactor", "polar_decompose", "polar_pull_back"]

# Squaring costs half of the digits: beyond this condition number of C the Gram matrix, in float64 and
# after one correction, no longer gives full accuracy, and the SVD takes over.
_MAX_GRAM_CONDITION = 1e5


class PolarFactor(NamedTuple):
    """C = V S with VᵀV = I and S = Q diag(σ) Qᵀ symmetric positive semidefinite.

    Attributes:
        factor: V, ``(*batch, d, r)``.
        basis: Q, ``(*batch, r, r)``.
        values: σ in ascending order, ``(*batch, r)``: the singular values of C.
    """

    factor: Tensor
    basis: Tensor
    values: Tensor


def polar_decompose(matrix: Tensor) -> PolarFactor:
    """Polar decomposition of C ``(*batch, d, r)``, d ≥ r, in the dtype of C.

    Works in float64 where the device has it, whatever the dtype of C, because forming CᵀC squares the
    condition number. Rank-deficient C has many polar factors; one of them is returned (that of the SVD).
    Cost O(d r² + r³). No derivative: see :func:`polar_pull_back`.
    """
    wide = matrix if matrix.device.type == "mps" else matrix.double()
    gram = wide.mT @ wide
    squares, basis = torch.linalg.eigh(gram)
    values = squares.clamp_min(0).sqrt()
    well_conditioned = values[..., :1] * _MAX_GRAM_CONDITION > values[..., -1:]
    if not bool(well_conditioned.all()):
        return PolarFactor(*(part.to(matrix.dtype) for part in _by_svd(wide)))
    factor = wide @ ((basis / values.unsqueeze(-2)) @ basis.mT)
    if matrix.dtype == wide.dtype:
        factor = _correct(wide, factor, basis, values)
    return PolarFactor(*(part.to(matrix.dtype) for part in (factor, basis, values)))


def polar_pull_back(
    matrix: Tensor, factor: Tensor, cotangent: Tensor, basis: Tensor, values: Tensor
) -> Tensor:
    """Gradient with respect to C for a gradient G with respect to V = polar(C).

    dC = dV S + V dS with VᵀdV skew and dS symmetric. Multiplying by Vᵀ and taking the skew part gives
    (VᵀdV) S + S (VᵀdV) = VᵀdC − dCᵀV; the part of dV orthogonal to V is (I − VVᵀ) dC S⁻¹. Transposed:

        S X + X S = VᵀG − GᵀV        C̄ = V X + (I − VVᵀ) G S⁻¹

    A sum of singular values is the only denominator. Differentiable in C, V and G to any order; Q and σ
    only give the value faster. Where C is rank-deficient V is not unique; directions in which it is free
    count as zero (pseudo-inverse).

    Args:
        matrix: C, ``(*batch, d, r)``.
        factor: V.
        cotangent: G.
        basis: Q of :class:`PolarFactor`, constant.
        values: σ of :class:`PolarFactor`, constant.
    """
    stretch = factor.mT @ matrix
    inner = factor.mT @ cotangent
    rotation = solve_sylvester(stretch, inner - inner.mT, basis, values)
    outside = divide_right(stretch, cotangent - factor @ inner, basis, values)
    return factor @ rotation + outside


def _correct(matrix: Tensor, factor: Tensor, basis: Tensor, values: Tensor) -> Tensor:
    """One Newton step for VᵀV = I and CᵀV = VᵀC together: regains what squaring C cost.

    With VᵀV = I + 2E and B = VᵀC, the update V ← V (I − E + X) with X skew has, to first order,
    orthonormal columns (the Newton-Schulz step) and a symmetric VᵀC if
    S X + X S = (B − Bᵀ) − (E S − S E).
    """
    inner = factor.mT @ matrix
    identity = torch.eye(values.shape[-1], dtype=factor.dtype, device=factor.device)
    stretching = (factor.mT @ factor - identity) / 2
    skew = basis.mT @ (inner - inner.mT) @ basis
    # E S − S E in the eigenbasis, where S is diagonal.
    commutator = (basis.mT @ stretching @ basis) * (values.unsqueeze(-2) - values.unsqueeze(-1))
    sums = values.unsqueeze(-1) + values.unsqueeze(-2)
    rotation = basis @ ((skew - commutator) * reciprocal(sums)) @ basis.mT
    return factor + factor @ (rotation - stretching)


def _by_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right, right.mT.flip(-1), values.flip(-1)
