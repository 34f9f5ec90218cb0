"""Wrong train labels on purpose: a transition matrix, drawn from with a seed.

T (K, K) holds T_jk = the probability that a sample of class j is labelled k; rows sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddn.errors import DtypeError, ShapeError
from ddn_etf.data._draws import seeded_generator
from ddn_etf.data._naming import described, fingerprint, number
from ddn_etf.data.dataset import Dataset, check_dataset
from ddn_etf.validation import check_integer, check_num_classes, check_real, class_labels

__all__ = ["AsymmetricNoise", "LabelNoise", "SymmetricNoise", "noisy", "noisy_labels"]


class LabelNoise(Protocol):
    """How labels go wrong.

    ``str`` of it goes into the name of the set: if a class defines it, it tells all of its
    parameters. Where it does not, a fingerprint of T is in the name.
    """

    def transition(self, num_classes: int) -> Tensor:
        """T (K, K), float64; rows sum to 1."""
        ...


@dataclass(frozen=True)
class SymmetricNoise:
    """A label is wrong with probability ε; all other classes are equally likely in its place.

    T = (1 - ε) I + ε (11ᵀ - I)/(K - 1). (Some authors draw from all K classes, the right one
    included; their rate r is ε = r (K - 1)/K.)

    Args:
        rate: ε in [0, 1].

    Raises:
        TypeError: ε is not a number.
        ValueError: ε is outside [0, 1].
    """

    rate: float

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def __str__(self) -> str:
        return f"label noise {number(self.rate)} (symmetric)"

    def transition(self, num_classes: int) -> Tensor:
        """1 - ε on the diagonal, ε/(K - 1) off it."""
        check_num_classes(num_classes)
        off = self.rate / (num_classes - 1)
        matrix = torch.full((num_classes, num_classes), off, dtype=torch.float64, device="cpu")
        return matrix.fill_diagonal_(1 - self.rate)


@dataclass(frozen=True)
class AsymmetricNoise:
    """A label of class j is, with probability ε, that of the one class it is confused with.

    Patrini, Rozza, Menon, Nock and Qu, "Making Deep Neural Networks Robust to Label Noise" (2017);
    for CIFAR-10 they take truck → automobile, bird → airplane, deer → horse and cat ↔ dog:
    ``{9: 1, 2: 0, 4: 7, 3: 5, 5: 3}``.

    Args:
        rate: ε in [0, 1].
        confused_with: class → class; those that are not named keep their labels. None stands for
            k → k + 1, and K - 1 → 0.

    Raises:
        TypeError: ε is not a number, or ``confused_with`` no mapping of integers.
        ValueError: ε is outside [0, 1].
    """

    rate: float
    confused_with: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        pairs = self.confused_with
        if not isinstance(pairs, Mapping | None):
            raise TypeError(f"confused_with must be a mapping of class to class, found {pairs!r}")
        for source, target in (pairs or {}).items():
            # Their range is that of the classes, which are not known yet.
            check_integer("a class in confused_with", source)
            check_integer(f"confused_with[{source}]", target)

    def __str__(self) -> str:
        if self.confused_with is None:
            pairs = ""
        elif len(self.confused_with) > 6:
            flat = [k for pair in sorted(self.confused_with.items()) for k in pair]
            pairs = f", {len(flat) // 2} confusions {fingerprint(torch.tensor(flat, device='cpu'))}"
        else:
            pairs = "".join(f", {j} as {k}" for j, k in sorted(self.confused_with.items()))
        return f"label noise {number(self.rate)} (asymmetric{pairs})"

    def transition(self, num_classes: int) -> Tensor:
        """1 - ε on the diagonal and ε at the other class, for classes that are confused.

        Raises:
            ValueError: a class outside 0, ..., K-1.
        """
        check_num_classes(num_classes)
        pairs = self.confused_with
        if pairs is None:
            pairs = {k: (k + 1) % num_classes for k in range(num_classes)}
        matrix = torch.eye(num_classes, dtype=torch.float64, device="cpu")
        for source, target in pairs.items():
            if not (0 <= source < num_classes and 0 <= target < num_classes):
                raise ValueError(
                    f"confused_with has {source}: {target}, but the classes are "
                    f"0..{num_classes - 1}"
                )
            matrix[source, source] -= self.rate
            matrix[source, target] += self.rate
        return matrix


def noisy_labels(labels: Tensor, transition: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw a label for every sample from the row of its class.

    Args:
        labels: (N,), integers in 0, ..., K-1.
        transition: T (K, K), nonnegative, rows sum to 1.
        seed: of the draw, >= 0. With the same seed a higher rate flips a superset of the labels.

    Returns:
        The new labels (N,), int64, and which of them differ from the old ones (N,), bool.

    Raises:
        TypeError: the seed is not an integer.
        DtypeError: labels that are not integers, or T is no tensor of real numbers.
        ShapeError: labels that are no vector, or T is no square matrix.
        ValueError: T is negative somewhere, a row does not sum to 1, or a label is out of range.
    """
    old = class_labels("labels", labels).cpu()
    if old.ndim != 1:
        raise ShapeError(f"labels must have shape (N,), found {tuple(old.shape)}")
    if not isinstance(transition, Tensor) or transition.is_complex():
        raise DtypeError(
            "transition must be a tensor of real numbers (K, K), found "
            f"{type(transition).__name__}; convert with torch.as_tensor()"
        )
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1]:
        raise ShapeError(f"transition must be (K, K), found {tuple(transition.shape)}")
    T = transition.detach().to("cpu", torch.float64)
    bad = torch.nonzero(~((T >= 0).all(dim=1) & ((T.sum(dim=1) - 1).abs() < 1e-6))).flatten()
    if len(bad):
        raise ValueError(
            f"row {int(bad[0])} of transition is no distribution: it needs nonnegative numbers "
            "that sum to 1"
        )
    K = len(T)
    outside = torch.nonzero((old < 0) | (old >= K)).flatten()
    if len(outside):
        row = int(outside[0])
        raise ValueError(f"labels[{row}] is {int(old[row])}, outside 0..{K - 1}")
    # Inverse of the distribution function, with the right class first, so that the same uniform
    # number flips at a higher rate whatever it flips at a lower one.
    own = torch.arange(K, device="cpu").unsqueeze(1)
    others = torch.arange(K - 1, device="cpu").expand(K, -1)
    others = others + (others >= own)
    order = torch.cat([own, others], dim=1)
    cumulative = T.gather(1, order).cumsum(dim=1)
    cumulative /= cumulative[:, -1:].clone()  # exactly 1 at the end, above every uniform number
    uniform = torch.rand(
        len(old), dtype=torch.float64, generator=seeded_generator(seed), device="cpu"
    )
    position = torch.empty_like(old)
    for k in range(K):
        members = old == k
        position[members] = torch.searchsorted(cumulative[k], uniform[members], right=True)
    new = order[old, position].to(labels.device)
    return new, new != labels.long()


def noisy(dataset: Dataset, noise: LabelNoise, *, seed: int = 0) -> tuple[Dataset, Tensor]:
    """The same samples with some train labels wrong, and which.

    The name of the set says how it was made: ``"digits, label noise 0.4 (symmetric), seed 0"``.

    Args:
        dataset: with right labels.
        noise: such as ``SymmetricNoise(0.4)``.
        seed: of the draw, >= 0.

    Returns:
        The set, and a mask (N,) that is True where the label was changed.

    Raises:
        TypeError: not a data set, a kind of noise or a whole number, in this order.
        ShapeError: T of the noise is not (K, K).
        ValueError: a row of T is no distribution.
    """
    check_dataset(dataset)
    if isinstance(noise, type) or not hasattr(noise, "transition"):
        raise TypeError(
            f"noise must be a kind of label noise such as SymmetricNoise(0.4), found {noise!r}"
        )
    T = noise.transition(dataset.num_classes)
    if len(T) != dataset.num_classes:
        raise ShapeError(
            f"T of {noise} is for {len(T)} classes, and {dataset.name} has {dataset.num_classes}"
        )
    labels, flipped = noisy_labels(dataset.train_labels, T, seed=seed)
    name = f"{dataset.name}, {described(noise, T)}, seed {seed}"
    return dataset.relabel_train(labels, name=name), flipped


def _check_rate(rate: float) -> None:
    check_real("rate", rate)
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is a probability in [0, 1], found {rate}")
