"""The two models: one layer after the free features, or two.

A network that is large enough can give its last hidden layer any value on the training samples. The
model takes these values themselves as variables: K classes with n samples each, features H (N, d),
N = Kn, samples of one class side by side. The papers' H and Z are transposed: here a sample is a row.
What both share is in :mod:`ddn_etf.ufm.features_model`.
"""

# ruff: noqa: N815 - W and H are the papers' letters

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ddn_etf.ufm.factors import check_decay
from ddn_etf.ufm.features_model import Block, FeaturesModel
from ddn_etf.ufm.losses import CrossEntropy, DataTerm, MeanSquaredError
from ddn_etf.validation import check_count

__all__ = ["ExtendedUnconstrainedFeatures", "UnconstrainedFeatures"]


@dataclass(frozen=True, kw_only=True)
class UnconstrainedFeatures(FeaturesModel):
    """f(W, H, b) = g(σ(H) Wᵀ + 1bᵀ) + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖².

    W (K, d), H (N, d), b (K,); σ is the identity or ReLU.

    Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained Features" (2021), for
    cross entropy; Tirer and Bruna, "Extended Unconstrained Features Model" (2022), for the mean
    squared error.

    Attributes:
        dim: d >= 1.
        weight_decay_W: λ_W > 0.
        weight_decay_H: λ_H > 0.

    Raises:
        TypeError: a size is not an integer, a weight decay no number, or loss, bias or activation a
            class or a name in place of an object.
        FrameSizeError: K < 2.
        ValueError: n or d below 1, or a weight decay that is not a positive number.
    """

    dim: int
    weight_decay_W: float
    weight_decay_H: float
    loss: DataTerm = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("dim", self.dim, 1)
        check_decay(weight_decay_W=self.weight_decay_W, weight_decay_H=self.weight_decay_H)

    @property
    def layers(self) -> dict[str, Block]:
        """W and H."""
        return {
            "W": Block((self.num_classes, self.dim), self.weight_decay_W),
            "H": Block((self.num_samples, self.dim), self.weight_decay_H),
        }

    def last_layer(self, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """σ(H), (N, d), and W."""
        return self.activation(parts["H"]), parts["W"]


@dataclass(frozen=True, kw_only=True)
class ExtendedUnconstrainedFeatures(FeaturesModel):
    """f(W₂, W₁, H, b) = g(σ(H W₁ᵀ) W₂ᵀ + 1bᵀ) + λ₂/2 ‖W₂‖² + λ₁/2 ‖W₁‖² + λ_H/2 ‖H‖² + λ_b/2 ‖b‖².

    W₂ (K, d2), W₁ (d2, d1), H (N, d1), b (K,); σ is the identity or ReLU.

    Tirer and Bruna, "Extended Unconstrained Features Model for Exploring Deep Neural Collapse"
    (2022), section 4.

    Attributes:
        dim: d1 >= 1, number of free features.
        width: d2 >= 1, number of features after the first layer.
        weight_decay_W2: λ₂ > 0.
        weight_decay_W1: λ₁ > 0.
        weight_decay_H: λ_H > 0.

    Raises:
        TypeError: a size is not an integer, a weight decay no number, or loss, bias or activation a
            class or a name in place of an object.
        FrameSizeError: K < 2.
        ValueError: n, d1 or d2 below 1, or a weight decay that is not a positive number.
    """

    dim: int
    width: int
    weight_decay_W2: float
    weight_decay_W1: float
    weight_decay_H: float
    loss: DataTerm = field(default_factory=MeanSquaredError)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("dim", self.dim, 1)
        check_count("width", self.width, 1)
        check_decay(
            weight_decay_W2=self.weight_decay_W2,
            weight_decay_W1=self.weight_decay_W1,
            weight_decay_H=self.weight_decay_H,
        )

    @property
    def layers(self) -> dict[str, Block]:
        """W2, W1 and H."""
        return {
            "W2": Block((self.num_classes, self.width), self.weight_decay_W2),
            "W1": Block((self.width, self.dim), self.weight_decay_W1),
            "H": Block((self.num_samples, self.dim), self.weight_decay_H),
        }

    def last_layer(self, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """σ(H W₁ᵀ), (N, d2), and W₂."""
        return self.activation(parts["H"] @ parts["W1"].mT), parts["W2"]
