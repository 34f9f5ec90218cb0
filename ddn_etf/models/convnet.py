"""A network that is small enough for a laptop."""

from __future__ import annotations

from torch import nn

from ddn_etf.models._flatten import FlattenTo
from ddn_etf.validation import check_count

__all__ = ["small_convnet"]


def small_convnet(
    dim: int = 64, *, channels: int = 1, size: int = 8, width: int = 32
) -> nn.Sequential:
    """A three-layer convolutional network for small images.

    Every convolution is followed by batch normalisation and a ReLU; the second and third halve the
    image. A linear layer maps what is left to the features, which may have either sign. About
    72 000 parameters with the defaults.

    Args:
        dim: d, number of features.
        channels: channels of the input.
        size: height and width of the input in pixels.
        width: channels after the first convolution; the others have twice as many.

    Returns:
        A module from images (N, channels, size, size) to features (N, dim).

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is below 1.
        ShapeError: when called, images of another size.
    """
    arguments = {"dim": dim, "channels": channels, "size": size, "width": width}
    for name, value in arguments.items():
        check_count(name, value, 1)
    halved_twice = -(-size // 4)
    return nn.Sequential(
        *_convolution(channels, width, stride=1),
        *_convolution(width, 2 * width, stride=2),
        *_convolution(2 * width, 2 * width, stride=2),
        FlattenTo(2 * width * halved_twice**2),
        nn.Linear(2 * width * halved_twice**2, dim),
    )


def _convolution(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
    """3 x 3 convolution without bias (the normalisation has one), normalisation, ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
