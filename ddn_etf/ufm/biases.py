"""What the model adds to all logits: nothing, a free vector, or one with weight decay.

Each is an object with the weight decay λ_b and with its part in the dual problem, which
:mod:`ddn_etf.ufm.landscape.certificate` derives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ddn_etf.ufm.checks import check_number, check_object
from ddn_etf.ufm.losses import DataTerm

__all__ = ["Bias", "FreeBias", "NoBias", "RegularizedBias", "check_bias"]


class Bias(Protocol):
    """Which b ∈ R^K are allowed, and what they cost."""

    @property
    def weight_decay(self) -> float | None:
        """λ_b, the b term being λ_b/2 ‖b‖²; None where there is no b."""
        ...

    def dual(self, slope: Tensor, loss: DataTerm, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A dual point near Θ that b allows, and what b takes from its value.

        Args:
            slope: Θ (N, K).
            loss: g.
            labels: (N,).

        Returns:
            Θ' (N, K), and -min_b [⟨Θ', 1bᵀ⟩ + λ_b/2 ‖b‖²] as () tensor.
        """
        ...


def check_bias(bias: object) -> None:
    """Check that a bias is one of the objects of this module, or one that does what they do.

    Raises:
        TypeError: a class in place of an object, or something else.
    """
    known = "NoBias() for b = 0, FreeBias(), RegularizedBias(weight_decay_b)"
    check_object("bias", bias, ("weight_decay", "dual"), known)


@dataclass(frozen=True)
class NoBias:
    """b = 0."""

    @property
    def weight_decay(self) -> None:
        """There is no b."""
        return None

    def dual(self, slope: Tensor, loss: DataTerm, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Any Θ, at no cost."""
        return slope, slope.new_zeros(())


@dataclass(frozen=True)
class FreeBias:
    """Any b, without weight decay."""

    @property
    def weight_decay(self) -> float:
        """No cost."""
        return 0.0

    def dual(self, slope: Tensor, loss: DataTerm, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Only Θ with Θᵀ1 = 0: for any other, a large b makes the value -∞."""
        return loss.balance(slope, labels), slope.new_zeros(())


@dataclass(frozen=True)
class RegularizedBias:
    """Any b, at the cost λ_b/2 ‖b‖².

    Args:
        weight_decay: λ_b > 0; :class:`FreeBias` is the limit 0 and :class:`NoBias` the limit ∞.

    Raises:
        TypeError: no number.
        ValueError: not a positive number.
    """

    weight_decay: float

    def __post_init__(self) -> None:
        check_number(
            "weight_decay of the bias",
            self.weight_decay,
            remedy="FreeBias() has none, and NoBias() is a model without bias",
        )

    def dual(self, slope: Tensor, loss: DataTerm, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Any Θ, at the cost ‖Θᵀ1‖²/(2 λ_b)."""
        return slope, slope.sum(dim=0).square().sum() / (2 * self.weight_decay)
