"""Backbones: networks that map an input to a feature vector, without the last layer.

The last layer is a head from :mod:`ddn_etf.heads`.
"""

from __future__ import annotations

from ddn_etf.models.convnet import small_convnet
from ddn_etf.models.perceptron import mlp
from ddn_etf.models.registry import MODELS, ModelSource, find_model
from ddn_etf.models.resnet import ResNet, resnet18, resnet34, resnet50
from ddn_etf.models.vgg import VGG, vgg11, vgg13, vgg16, vgg19

__all__ = [
    "MODELS",
    "VGG",
    "ModelSource",
    "ResNet",
    "find_model",
    "mlp",
    "resnet18",
    "resnet34",
    "resnet50",
    "small_convnet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]
