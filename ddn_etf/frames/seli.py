"""The geometry that imbalanced data collapse to: simplex-encoded-labels interpolation (SELI).

Thrampoulidis, Kini, Vakilian and Behnia, "Imbalance Trouble: Revisiting Neural-Collapse Geometry"
(2022): with n_k samples of class k, the vanishing-regularisation limit of cross entropy interpolates
the simplex-encoded labels

    Ẑ (K, N),   Ẑ_{c,i} = 1{c = y_i} - 1/K,   Ẑ = V Λ Uᵀ   (thin singular value decomposition),

by W H = Ẑ with W Wᵀ = V Λ Vᵀ and Hᵀ H = U Λ Uᵀ. All columns of a class are equal, so that features
collapse to their class means, and everything follows from a K × K matrix:

    Ẑ Ẑᵀ = Σ_c n_c ẑ_c ẑ_cᵀ = V Λ² Vᵀ,   W = V Λ^{1/2},   μ_c = Λ^{-1/2} Vᵀ ẑ_c,   ẑ_c = e_c - 1/K.

With equal n_c the two are simplex ETFs; otherwise neither is, and the classifier's vectors of the
frequent classes are the longer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn_etf.frames._rounding import round_once
from ddn_etf.frames.simplex import centering_matrix
from ddn_etf.validation import check_counts, check_num_classes

__all__ = ["SELIGeometry", "seli_geometry"]


@dataclass(frozen=True, eq=False)
class SELIGeometry:
    """Classifier and class means at the end of training, up to a rotation and one common factor.

    Attributes:
        weight: W = V Λ^{1/2}, (K, K - 1); the rows are the classifier's vectors.
        means: μ, (K, K - 1); the rows are the class means, W μᵀ = I - 11ᵀ/K.
        singular_values: Λ, (K - 1,), of Ẑ, decreasing.
    """

    weight: Tensor
    means: Tensor
    singular_values: Tensor

    @property
    def weight_gram(self) -> Tensor:
        """W Wᵀ = V Λ Vᵀ, (K, K)."""
        return self.weight @ self.weight.mT

    @property
    def mean_gram(self) -> Tensor:
        """Inner products of the class means, (K, K), one row and column of U Λ Uᵀ per class."""
        return self.means @ self.means.mT


def seli_geometry(
    class_counts: Sequence[int] | Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> SELIGeometry:
    """The SELI geometry of a data set with n_k samples of class k.

    For the labels of a data set, ``class_counts`` is ``torch.bincount(labels, minlength=K)``.

    Args:
        class_counts: n_1, ..., n_K, whole numbers of at least 1, K >= 2.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Raises:
        FrameSizeError: K < 2.
        LabelError: a class without samples, or a count that is not a whole number; names the class.
        TypeError: ``dtype`` is not a floating-point type, or the counts are no numbers.
    """
    whole = check_counts("class_counts", class_counts, 1)
    K = len(whole)
    check_num_classes(K)
    counts = torch.tensor(whole, dtype=torch.float64, device="cpu")
    Z = centering_matrix(K, dtype=torch.float64, device="cpu")  # column c is ẑ_c
    V, values, _ = torch.linalg.svd(Z * counts.sqrt())
    V, values = V[:, : K - 1], values[: K - 1]
    weight = V * values.sqrt()
    means = Z @ V / values.sqrt()
    return SELIGeometry(*(round_once(part, dtype, device) for part in (weight, means, values)))
