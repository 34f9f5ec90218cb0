"""Synthetic points: Gaussian clusters whose overlap is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddn_etf.data._draws import seeded_generator
from ddn_etf.data._naming import with_changes
from ddn_etf.data.dataset import Dataset
from ddn_etf.frames import simplex_etf
from ddn_etf.validation import check_count, check_num_classes, check_real

__all__ = ["gaussian_mixture"]


def gaussian_mixture(
    num_classes: int = 10,
    dim: int = 32,
    *,
    separation: float = 4.0,
    train_per_class: int = 100,
    test_per_class: int = 100,
    seed: int = 0,
) -> Dataset:
    """Points x = μ_k + ε with ε ~ N(0, I), all classes equally far from each other if d allows it.

    Centres are a simplex frame in a random rotation, scaled so that any two are ``separation``
    apart. Two classes alone would be told apart by the best rule with error Φ(-separation/2). For
    dim < K - 1 no such frame exists: the centres are then independent N(0, separation²/(2 dim) I),
    which are ``separation`` apart in mean square.

    Args:
        num_classes: K >= 2.
        dim: number of inputs, >= 1.
        separation: distance of two centres, in standard deviations of a class; >= 0.
        train_per_class: train samples of each class, >= 1.
        test_per_class: test samples of each class, >= 1.
        seed: of the centres and of the noise, >= 0.

    Returns:
        Inputs (N, dim), float32, not standardised, sorted by class. The name of the set lists the
        arguments that are not the defaults: ``"gaussian-mixture, dim 8, seed 1"``.

    Raises:
        TypeError: a count is not an integer, or the separation not a number.
        FrameSizeError: K < 2.
        ValueError: a number is out of its range.
    """
    check_num_classes(num_classes)
    for name, count in (
        ("dim", dim),
        ("train_per_class", train_per_class),
        ("test_per_class", test_per_class),
    ):
        check_count(name, count, 1)
    check_real("separation", separation)
    if not 0 <= separation < math.inf:
        raise ValueError(f"separation must be a number of at least 0, found {separation}")
    generator = seeded_generator(seed)
    if dim >= num_classes - 1:
        # Rows of the frame are √(2K/(K-1)) apart.
        frame = simplex_etf(
            num_classes, dim, generator=generator, dtype=torch.float64, device="cpu"
        )
        centers = separation / math.sqrt(2 * num_classes / (num_classes - 1)) * frame
    else:
        noise = _gaussian(num_classes, dim, generator)
        centers = separation / math.sqrt(2 * dim) * noise

    def sample(per_class: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(num_classes, device="cpu").repeat_interleave(per_class)
        return (centers[labels] + _gaussian(len(labels), dim, generator)).float(), labels

    name = with_changes(
        "gaussian-mixture",
        classes=(num_classes, 10),
        dim=(dim, 32),
        separation=(separation, 4.0),
        train_per_class=(train_per_class, 100),
        test_per_class=(test_per_class, 100),
        seed=(seed, 0),
    )
    return Dataset(name, num_classes, *sample(train_per_class), *sample(test_per_class))


def _gaussian(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64, device="cpu")
