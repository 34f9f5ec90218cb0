"""The backbones that ``ddn-etf`` knows by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from ddn_etf._names import find_named
from ddn_etf.models.convnet import small_convnet
from ddn_etf.models.perceptron import mlp
from ddn_etf.models.resnet import resnet18, resnet34, resnet50
from ddn_etf.models.vgg import vgg11, vgg13, vgg16, vgg19
from ddn_etf.validation import check_count

__all__ = ["MODELS", "SMALL_IMAGE", "ModelSource", "find_model"]


@dataclass(frozen=True)
class ModelSource:
    r"""One backbone.

    Attributes:
        name: what the command line and the files call it.
        title: what tables and figures call it.
        build: (dim, input_shape) -> a module from inputs (N, \*input_shape) to features (N, dim).
    """

    name: str
    title: str
    build: Callable[[int, tuple[int, ...]], nn.Module]


def _image(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    _check_shape(input_shape)
    if len(input_shape) != 3:
        raise ValueError(
            f"{model} takes images (channels, height, width), but an input has shape {input_shape}; "
            "use the backbone 'mlp'"
        )
    channels, height, width = input_shape
    return channels, height, width


def _small_convnet(dim: int, input_shape: tuple[int, ...]) -> nn.Module:
    channels, height, width = _image(input_shape, "small-convnet")
    if height != width:
        raise ValueError(f"small-convnet takes square images, but an input has {height} x {width}")
    return small_convnet(dim, channels=channels, size=height)


def _resnet(name: str, make: Callable[..., nn.Module]) -> ModelSource:
    def build(dim: int, input_shape: tuple[int, ...]) -> nn.Module:
        channels, *sides = _image(input_shape, name)
        small = max(sides) <= SMALL_IMAGE
        return make(feature_dim=dim, channels=channels, small_images=small)

    return ModelSource(name, f"ResNet-{name.removeprefix('resnet')}", build)


def _vgg(name: str, make: Callable[..., nn.Module]) -> ModelSource:
    def build(dim: int, input_shape: tuple[int, ...]) -> nn.Module:
        return make(feature_dim=dim, channels=_image(input_shape, name)[0])

    return ModelSource(name, f"VGG-{name.removeprefix('vgg')}", build)


def _check_shape(input_shape: tuple[int, ...]) -> None:
    if not isinstance(input_shape, Sequence) or not len(input_shape):
        raise TypeError(
            f"input_shape must be the sizes of one input, such as (3, 32, 32), found {input_shape!r}"
        )
    for position, size in enumerate(input_shape):
        check_count(f"input_shape[{position}]", size, 1)


def _mlp(dim: int, input_shape: tuple[int, ...]) -> nn.Module:
    _check_shape(input_shape)
    return mlp(dim, inputs=math.prod(input_shape))


SMALL_IMAGE = 64
"""Up to this height and width in pixels a ResNet gets the stem for small images."""

MODELS: dict[str, ModelSource] = {
    source.name: source
    for source in (
        ModelSource("small-convnet", "small convolutional network", _small_convnet),
        ModelSource("mlp", "multilayer perceptron", _mlp),
        _resnet("resnet18", resnet18),
        _resnet("resnet34", resnet34),
        _resnet("resnet50", resnet50),
        _vgg("vgg11", vgg11),
        _vgg("vgg13", vgg13),
        _vgg("vgg16", vgg16),
        _vgg("vgg19", vgg19),
    )
}
"""All backbones by name."""


def find_model(name: str) -> ModelSource:
    """Look up one backbone.

    Raises:
        TypeError: the name is no text.
        ValueError: the name is not known; the message lists those that are.
    """
    return find_named("backbone", name, MODELS)
