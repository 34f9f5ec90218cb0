"""Balanced factors of collapsed logits: from the optimal Z to the minimisers (W, H).

For any Z of rank at most d (Srebro, Rennie and Jaakkola 2004; Zhu et al. 2021, lemma A.3),

    min over W H = Z of  λ_W/2 ‖W‖² + λ_H/2 ‖H‖²  =  √(λ_W λ_H) ‖Z‖_*,

attained at W = (λ_H/λ_W)^{1/4} U Σ^{1/2} Pᵀ, H = (λ_W/λ_H)^{1/4} P Σ^{1/2} Vᵀ for Z = U Σ Vᵀ and any
P (d, r) with orthonormal columns. Here Z = G ⊗ 1_nᵀ with a positive semidefinite G = x M + y J,
M = I - 11ᵀ/K, J = 11ᵀ/K, whose singular values are √n times those of G: so

    W = (nλ_H/λ_W)^{1/4} G^{1/2} Pᵀ,   h_k = (λ_W/(nλ_H))^{1/4} P (G^{1/2})_k,   G^{1/2} = √x M + √y J.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddn_etf.errors import FrameSizeError
from ddn_etf.ufm.checks import check_number
from ddn_etf.validation import check_count, check_num_classes

__all__ = ["Minimizer", "check_decay", "check_model_size", "collapsed_factors", "orthonormal"]


class Minimizer(NamedTuple):
    """A global minimiser of a model with one layer.

    Attributes:
        W: (K, d).
        H: (N, d), features, n rows per class, classes in order.
        b: (K,); zeros in a model without bias.
    """

    W: Tensor
    H: Tensor
    b: Tensor


def check_model_size(num_classes: int, samples_per_class: int) -> None:
    """Check that K >= 2 and n >= 1 are integers.

    Raises:
        TypeError: not an integer.
        FrameSizeError: K < 2.
        ValueError: n < 1.
    """
    check_num_classes(num_classes)
    check_count("samples_per_class", samples_per_class, 0)
    if samples_per_class == 0:
        raise ValueError(
            "samples_per_class is 0: without samples there are no features and no loss; use at least 1"
        )


def check_decay(**weight_decays: float) -> None:
    """Check that weight decays are positive numbers.

    Raises:
        TypeError: no number.
        ValueError: one is not; without weight decay the infimum is not attained (cross entropy) or
            minimisers are unbounded.
    """
    for name, value in weight_decays.items():
        check_number(
            name, value, remedy="without weight decay there is no bounded set of minimisers"
        )


def collapsed_factors(
    x: float,
    y: float,
    num_classes: int,
    samples_per_class: int,
    dim: int,
    ratio: float,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """W (K, d) and H (N, d) of least norms with W h_k = (x M + y J)_k, in float64.

    Args:
        x: coefficient of M, >= 0.
        y: coefficient of J, >= 0.
        num_classes: K.
        samples_per_class: n.
        dim: d, at least the rank of x M + y J.
        ratio: √(nλ_H/λ_W), the length of w_k in units of that of h_k.
        generator: source of a random P; the first coordinates if not given.

    Raises:
        FrameSizeError: d is below the rank; minima of fewer dimensions have another form.
    """
    check_count("dim", dim, 1)
    identity = torch.eye(num_classes, dtype=torch.float64)
    ones = torch.full_like(identity, 1 / num_classes)
    rank = (num_classes - 1 if x > 0 else 0) + (1 if y > 0 else 0)
    if dim < rank:
        raise FrameSizeError(
            f"dim is {dim} and this minimum has rank {rank}: use dim >= {rank}; in fewer dimensions "
            "the minimum is another one, larger than this value"
        )
    root = math.sqrt(x) * (identity - ones) + math.sqrt(y) * ones
    if dim < num_classes:
        # P takes coordinates of the range of the root in place of all K.
        values, vectors = torch.linalg.eigh(root)
        basis = vectors[:, values.argsort(descending=True)[:dim]]
        root = root @ basis
    P = orthonormal(dim, root.shape[1], generator)
    directions = root @ P.mT
    W = math.sqrt(ratio) * directions
    H = (directions / math.sqrt(ratio)).repeat_interleave(samples_per_class, dim=0)
    return W, H


def orthonormal(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    """Orthonormal columns (rows, columns), float64: the first coordinates, or uniformly random."""
    if generator is None:
        return torch.eye(rows, columns, dtype=torch.float64)
    gaussian = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    Q, R = torch.linalg.qr(gaussian)
    uniform: Tensor = Q * R.diagonal().sign()
    return uniform
