"""A network for inputs that are no images."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from ddn_etf.models._flatten import FlattenTo
from ddn_etf.validation import check_count

__all__ = ["mlp"]


def mlp(dim: int = 64, *, inputs: int, width: int = 256, depth: int = 2) -> nn.Sequential:
    """Linear layers with ReLU between them; the features may have either sign.

    Args:
        dim: d, number of features.
        inputs: numbers in one input, of whatever shape.
        width: units of each hidden layer.
        depth: number of hidden layers, >= 0.

    Returns:
        A module from (N, ...) with ``inputs`` numbers per row to (N, dim).

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is out of its range.
        ShapeError: when called, another number of inputs.
    """
    for name, value, minimum in (
        ("dim", dim, 1),
        ("inputs", inputs, 1),
        ("width", width, 1),
        ("depth", depth, 0),
    ):
        check_count(name, value, minimum)
    sizes = [inputs] + [width] * depth
    layers: list[nn.Module] = [FlattenTo(inputs)]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], dim))
