"""The unregularised loss g of a model, as a function of all logits, with its convex conjugate.

Logits are (N, K), one row per sample: the transpose of the papers' Z. A means over samples; E is
the (N, K) matrix of one-hot labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from ddn_etf.ufm.checks import check_object

__all__ = ["CrossEntropy", "DataTerm", "MeanSquaredError", "check_loss"]


class DataTerm(Protocol):
    """A convex function g of the logits, with what duality needs of it."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss g(Z), () from logits (N, K) and labels (N,)."""
        ...

    def conjugate(self, slope: Tensor, labels: Tensor) -> Tensor:
        """g*(Θ) = sup_Z ⟨Θ, Z⟩ - g(Z), () from Θ (N, K) in the range of ∇g or scaled towards 0."""
        ...

    def balance(self, slope: Tensor, labels: Tensor) -> Tensor:
        """A point near Θ in the domain of g* whose rows sum to the zero vector, Θᵀ1 = 0."""
        ...


def check_loss(loss: object) -> None:
    """Check that a loss is one of the objects of this module, or one that does what they do.

    Raises:
        TypeError: a class in place of an object, or something else, such as one of
            :mod:`ddn_etf.losses`, which are functions of a head's output.
    """
    needs = ("__call__", "conjugate", "balance")
    check_object("loss", loss, needs, "CrossEntropy(), MeanSquaredError() of ddn_etf.ufm")


@dataclass(frozen=True)
class CrossEntropy:
    """g(Z) = (1/N) Σ_i [log Σ_k exp z_ik - z_{i,y_i}], the loss of Zhu et al. (2021).

    ∇g = (P - E)/N with the rows of P = softmax(Z) in the simplex. With P = NΘ + E,

        g*(Θ) = (1/N) Σ_i Σ_k P_ik log P_ik      where the rows of P lie in the simplex,

    and +∞ elsewhere. Scaling Θ towards 0 moves P towards E and stays in this domain.
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy, ()."""
        return cross_entropy(logits, labels)

    def conjugate(self, slope: Tensor, labels: Tensor) -> Tensor:
        """Minus the mean entropy of P, ()."""
        # Entries that rounding has made negative are zeros.
        P = (len(slope) * slope + _targets(slope, labels)).clamp(min=0)
        entropy: Tensor = torch.special.entr(P).sum()
        return -entropy / len(slope)

    def balance(self, slope: Tensor, labels: Tensor) -> Tensor:
        """Rows of P shifted by one vector so that they sum to the class counts, and kept >= 0.

        The entries of the shift sum to zero, so that rows of P still sum to one. Where it makes one
        of them negative, P is mixed with the matrix of entries 1/K, which has the right sums where
        all classes have the same number of samples.
        """
        N, K = slope.shape
        P = N * (slope - slope.mean(dim=0)) + _targets(slope, labels)
        lowest = P.amin().clamp(max=0)
        share = -lowest / (1 / K - lowest)
        return ((1 - share) * P + share / K - _targets(slope, labels)) / N


@dataclass(frozen=True)
class MeanSquaredError:
    """g(Z) = (1/2N) ‖Z - E‖²_F, the loss of Tirer and Bruna (2022); N = Kn.

    g*(Θ) = ⟨Θ, E⟩ + (N/2) ‖Θ‖²_F for all Θ.
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Half the squared distance to the one-hot labels per sample, ()."""
        return (logits - _targets(logits, labels)).square().sum() / (2 * len(logits))

    def conjugate(self, slope: Tensor, labels: Tensor) -> Tensor:
        """⟨Θ, E⟩ + (N/2) ‖Θ‖², ()."""
        linear = (slope * _targets(slope, labels)).sum()
        return linear + len(slope) / 2 * slope.square().sum()

    def balance(self, slope: Tensor, labels: Tensor) -> Tensor:
        """The nearest Θ with Θᵀ1 = 0."""
        return slope - slope.mean(dim=0)


def _targets(like: Tensor, labels: Tensor) -> Tensor:
    """E (N, K), in the dtype of the logits."""
    targets: Tensor = one_hot(labels, like.shape[1]).to(like.dtype)
    return targets
