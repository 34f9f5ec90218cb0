"""The orthogonal polar factor of a tall matrix, and its derivative.

    polar(C) = argmin_V ‖V − C‖_F  s.t.  VᵀV = I   =  C (CᵀC)^{-1/2}   =  P Qᵀ for the thin SVD C = P Σ Qᵀ

(Fan and Hoffman 1955; Higham 1986). For more than a few columns the r×r Gram matrix CᵀC = Q Σ² Qᵀ gives it
faster than the SVD.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ddn.forward_mode import is_differentiated
from ddn.sylvester import divide_right, reciprocal, solve_sylvester

__all__ = ["PolarFactor", "polar_decompose", "polar_pull_back"]

# Squaring costs half of the digits: the error of the Gram route is about ε κ² / 10 for condition number κ.
# Up to the first bound that is a rounding error; up to the second, one correction (or float64, for float32)
# regains it; beyond, the SVD takes over.
_EXACT_CONDITION = 50.0
_MAX_GRAM_CONDITION = 1e3
# On a CPU the SVD of a matrix with few columns is faster than the detour over its Gram matrix.
_FEW_COLUMNS = 48
# Symmetric products are computed by blocks from this size on, without those above the diagonal.
_BLOCKED, _BLOCKS = 512, 4


class PolarFactor(NamedTuple):
    """C = V S with VᵀV = I and S = Q diag(σ) Qᵀ symmetric positive semidefinite.

    Attributes:
        factor: V, ``(*batch, d, r)``.
        basis: Q, ``(*batch, r, r)``.
        values: σ, ``(*batch, r)``: the singular values of C, in either order.
        reciprocals: 1/σ, ``(*batch, r)``; 0 where C is rank-deficient, for the pseudo-inverse of S.
    """

    factor: Tensor
    basis: Tensor
    values: Tensor
    reciprocals: Tensor


def polar_decompose(matrix: Tensor) -> PolarFactor:
    """Polar decomposition of C ``(*batch, d, r)``, d ≥ r, in the dtype of C.

    As exact as the dtype allows for any condition number: where squaring C would cost digits, it works in
    float64 or by the SVD. Rank-deficient C has many polar factors; one of them is returned (that of the SVD).
    Cost O(d r² + r³). No derivative: see :func:`polar_pull_back`.
    """
    if matrix.shape[-1] >= _FEW_COLUMNS or matrix.device.type == "cuda":
        polar = _by_gram(matrix)
    else:
        polar = _by_svd(matrix)
    return PolarFactor(*(part.to(matrix.dtype) for part in polar))


def polar_pull_back(
    matrix: Tensor | None,
    factor: Tensor,
    cotangent: Tensor,
    basis: Tensor,
    values: Tensor,
    reciprocals: Tensor,
) -> Tensor:
    """Gradient with respect to C for a gradient G with respect to V = polar(C).

    dC = dV S + V dS with VᵀdV skew and dS symmetric. Multiplying by Vᵀ and taking the skew part gives
    (VᵀdV) S + S (VᵀdV) = VᵀdC − dCᵀV; the part of dV orthogonal to V is (I − VVᵀ) dC S⁻¹. Transposed:

        S X + X S = VᵀG − GᵀV        C̄ = V X + (I − VVᵀ) G S⁻¹

    With B = G S⁻¹, N = VᵀB and X = N − Z this takes fewer products:

        S Z + Z S = S (N + Nᵀ)       C̄ = B − V Z

    In the eigenbasis, with U = V Q, B' = B Q = (G Q) σ⁻¹ and N' = Uᵀ B', division solves for Z' = Qᵀ Z Q, and
    C̄ = (B' − U Z') Qᵀ. A large 1/σ then multiplies nothing but its own direction, which G may be free of.

    A sum of singular values is the only denominator. Differentiable in C, V and G to any order; Q and σ
    only give the value faster. Where C is rank-deficient V is not unique; directions in which it is free
    count as zero (pseudo-inverse).

    Args:
        matrix: C, ``(*batch, d, r)``. It is for derivatives of the result: where none will be taken (under
            ``no_grad``) None will do.
        factor: V.
        cotangent: G.
        basis: Q of :class:`PolarFactor`, constant.
        values: σ of :class:`PolarFactor`, constant.
        reciprocals: 1/σ of :class:`PolarFactor`, constant.
    """
    if is_differentiated():
        if matrix is None:
            raise TypeError(
                "polar_pull_back needs the matrix where its result may be differentiated"
            )
        stretch = factor.mT @ matrix
        scaled = divide_right(stretch, cotangent, basis, values)
        inner = factor.mT @ scaled
        rotation = solve_sylvester(stretch, stretch @ (inner + inner.mT), basis, values)
        return scaled - factor @ rotation
    rotated = factor @ basis
    scaled = (cotangent @ basis).mul_(reciprocals.unsqueeze(-2))
    inner = rotated.mT @ scaled
    column = values.unsqueeze(-1)
    # Both values of a vanishing sum vanish, and so does the numerator.
    sums = (column + values.unsqueeze(-2)).clamp_min_(torch.finfo(values.dtype).tiny)
    shares = (inner + inner.mT).mul_(column).div_(sums)
    if scaled.ndim == 2:
        return scaled.addmm_(rotated, shares, alpha=-1) @ basis.mT
    return scaled.sub_(rotated @ shares) @ basis.mT


def _by_gram(matrix: Tensor, correct: bool = True) -> PolarFactor:
    eigenvalues, basis = torch.linalg.eigh(_symmetric_product(matrix, matrix))
    squares = eigenvalues.clamp_min(0)
    ratio = (squares[..., -1] / squares[..., 0]).nan_to_num(torch.inf)
    condition = float(ratio.amax()) ** 0.5 if ratio.numel() else 1.0
    if condition > _MAX_GRAM_CONDITION:
        return _by_svd(matrix)
    ill = condition > _EXACT_CONDITION
    if ill and matrix.dtype == torch.float32 and _has_double(matrix):
        # The result goes back to float32: no correction needed.
        return _by_gram(matrix.double(), correct=False)
    # S⁻¹ = Q σ⁻¹ Qᵀ as a product of equal factors.
    rows = (basis * squares.pow(-0.25).unsqueeze(-2)).mT
    inverse = _symmetric_product(rows, rows)
    polar = PolarFactor(matrix @ inverse, basis, squares.sqrt(), squares.rsqrt())
    if ill and correct:
        return polar._replace(factor=_correct(matrix, *polar[:3]))
    return polar


def _symmetric_product(left: Tensor, right: Tensor) -> Tensor:
    """LᵀR for ``(*batch, n, r)``, known to be symmetric."""
    size = left.shape[-1]
    if size < _BLOCKED or left.ndim > 2 or left.is_cuda:
        return left.mT @ right
    result = left.new_empty(size, size)
    bounds = [size * i // _BLOCKS for i in range(_BLOCKS + 1)]
    for i in range(_BLOCKS):
        rows = slice(bounds[i], bounds[i + 1])
        done = slice(0, bounds[i + 1])
        result[rows, done] = left[:, rows].mT @ right[:, done]
        result[done, rows] = result[rows, done].mT
    return result


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


def _by_svd(matrix: Tensor) -> PolarFactor:
    wide = matrix.double() if _has_double(matrix) else matrix
    left, values, right = torch.linalg.svd(wide, full_matrices=False)
    return PolarFactor(left @ right, right.mT, values, reciprocal(values.unsqueeze(-1)).squeeze(-1))


def _has_double(tensor: Tensor) -> bool:
    """Whether the device of ``tensor`` computes in float64."""
    return tensor.device.type != "mps"
