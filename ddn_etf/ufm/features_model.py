"""What all unconstrained features models share: f as a function of all variables in one vector.

A network that is large enough can give its last hidden layer any value on the training samples. The
model takes these values themselves as variables: K classes with n samples each, features H (N, d),
N = Kn, samples of one class side by side. The papers' H and Z are transposed: here a sample is a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.ufm.activations import Activation, Linear, check_activation
from ddn_etf.ufm.biases import Bias, NoBias, check_bias
from ddn_etf.ufm.factors import check_model_size
from ddn_etf.ufm.losses import DataTerm, check_loss

__all__ = ["Block", "FeaturesModel"]


class Block(NamedTuple):
    """One variable of a model.

    Attributes:
        shape: of the variable.
        weight_decay: λ of its term λ/2 ‖·‖².
    """

    shape: tuple[int, ...]
    weight_decay: float


@dataclass(frozen=True, kw_only=True)
class FeaturesModel(ABC):
    """f(v) = g(Z + 1bᵀ) + Σ_blocks λ/2 ‖block‖², a function of all variables in one vector v.

    Everything is differentiable by torch, of the dtype and on the device of v. A subclass says
    which blocks there are, and which features and weight the last layer has.

    Attributes:
        num_classes: K >= 2.
        samples_per_class: n >= 1.
        loss: g.
        bias: which b are allowed.
        activation: of the features that the last layer sees.

    Raises:
        TypeError: a size is not an integer, or loss, bias or activation is a class or a name in place
            of an object.
        FrameSizeError: K < 2.
        ValueError: n < 1.
    """

    num_classes: int
    samples_per_class: int
    loss: DataTerm
    bias: Bias = field(default_factory=NoBias)
    activation: Activation = field(default_factory=Linear)

    def __post_init__(self) -> None:
        check_model_size(self.num_classes, self.samples_per_class)
        check_loss(self.loss)
        check_bias(self.bias)
        check_activation(self.activation)

    @property
    @abstractmethod
    def layers(self) -> dict[str, Block]:
        """The blocks by name in their order in v, without b."""

    @abstractmethod
    def last_layer(self, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the last layer sees and what it is: features (N, d) and weight (K, d)."""

    def predict(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The logits Z (N, K) without b: features times the transposed weight."""
        features, weight = self.last_layer(parts)
        return features @ weight.mT

    @property
    def blocks(self) -> dict[str, Block]:
        """All blocks by name, in their order in v; b is the last one, where there is one."""
        decay = self.bias.weight_decay
        return (
            self.layers
            if decay is None
            else {**self.layers, "b": Block((self.num_classes,), decay)}
        )

    @property
    def size(self) -> int:
        """Number of variables, the length of v."""
        return sum(_count(block) for block in self.blocks.values())

    @property
    def num_samples(self) -> int:
        """N = Kn."""
        return self.num_classes * self.samples_per_class

    def labels(self, device: torch.device | str | None = None) -> Tensor:
        """y (N,): n times 0, then n times 1, ..."""
        classes = torch.arange(self.num_classes, device=device)
        return classes.repeat_interleave(self.samples_per_class)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The blocks of v, as views.

        Raises:
            DtypeError: not a floating-point tensor.
            ShapeError: not of shape (size,).
        """
        if not isinstance(vector, Tensor) or not vector.is_floating_point():
            raise DtypeError("a point of the model must be a real floating-point tensor")
        if vector.shape != (self.size,):
            raise ShapeError(
                f"a point of this model has shape ({self.size},), found {tuple(vector.shape)}; "
                "join() makes one from its blocks"
            )
        blocks = self.blocks
        pieces = vector.split([_count(block) for block in blocks.values()])
        return {
            name: piece.view(block.shape)
            for (name, block), piece in zip(blocks.items(), pieces, strict=True)
        }

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """v from blocks by name, such as ``minimum.minimizer(dim)._asdict()``.

        Raises:
            ValueError: a block is missing or unknown. Zeros for b are accepted where there is no b.
            ShapeError: a block of another shape.
        """
        blocks = self.blocks
        for name, part in parts.items():
            if name not in blocks and not (name == "b" and not part.any()):
                raise ValueError(f"no block {name!r} in this model; it has {', '.join(blocks)}")
        for name, block in blocks.items():
            if name not in parts:
                raise ValueError(f"block {name!r} is missing; the model has {', '.join(blocks)}")
            if parts[name].shape != block.shape:
                raise ShapeError(
                    f"block {name!r} has shape {block.shape}, found {tuple(parts[name].shape)}"
                )
        return torch.cat([parts[name].reshape(-1) for name in blocks])

    def random_start(
        self,
        generator: torch.Generator,
        scale: float = 1.0,
        *,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """v with independent entries N(0, scale²), on the device of the generator."""
        gaussian = torch.randn(
            self.size, generator=generator, dtype=torch.float64, device=generator.device
        )
        return (scale * gaussian).to(dtype)

    def logits(self, vector: Tensor) -> Tensor:
        """Z + 1bᵀ, (N, K)."""
        return self._logits(self.split(vector))

    def objective(self, vector: Tensor) -> Tensor:
        """f(v), ()."""
        parts = self.split(vector)
        value = self.loss(self._logits(parts), self.labels(vector.device))
        for name, block in self.blocks.items():
            if block.weight_decay:
                value = value + block.weight_decay / 2 * parts[name].square().sum()
        return value

    def _logits(self, parts: Mapping[str, Tensor]) -> Tensor:
        logits = self.predict(parts)
        return logits + parts["b"] if "b" in parts else logits

    def value_and_gradient(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """f(v) () and ∇f(v) (size,), both detached."""
        point = vector.detach().requires_grad_()
        value = self.objective(point)
        (gradient,) = torch.autograd.grad(value, point)
        return value.detach(), gradient

    def curvature(self, vector: Tensor) -> Callable[[Tensor], Tensor]:
        """The map Δ ↦ ∇²f(v) Δ; the graph of ∇f(v) is kept for many directions.

        With ReLU, f has second derivatives where no activation is exactly at its corner; there the
        one of the flat side is taken.
        """
        point = vector.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.objective(point), point, create_graph=True)

        def product(direction: Tensor) -> Tensor:
            (image,) = torch.autograd.grad(gradient, point, direction, retain_graph=True)
            return image

        return product

    def hessian(self, vector: Tensor) -> Tensor:
        """∇²f(v), (size, size), symmetric to the last bit."""
        point = vector.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.objective(point), point, create_graph=True)
        identity = torch.eye(self.size, dtype=vector.dtype, device=vector.device)
        (rows,) = torch.autograd.grad(gradient, point, identity, is_grads_batched=True)
        return (rows + rows.mT) / 2

    def loss_slope(self, vector: Tensor) -> Tensor:
        """∇g at the logits of v, (N, K), the transpose of the papers' ∇g(Z)."""
        logits = self.logits(vector).detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(logits, self.labels(vector.device)), logits)
        return slope


def _count(block: Block) -> int:
    return torch.Size(block.shape).numel()
