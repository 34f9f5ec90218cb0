from __future__ import annotations

import pytest
import torch
from torch import nn

from ddn_etf.models import VGG, vgg11, vgg13, vgg16, vgg19


@pytest.mark.parametrize(
    ("make", "convolutions", "parameters"),
    # torchvision's vgg*_bn with 1000 classes, less its three linear layers.
    [
        (vgg11, 8, 132_868_840 - 123_642_856),
        (vgg13, 10, 133_053_736 - 123_642_856),
        (vgg16, 13, 138_365_992 - 123_642_856),
        (vgg19, 16, 143_678_248 - 123_642_856),
    ],
)
def test_layers_and_parameters(make, convolutions, parameters):
    network = make()
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.features) == convolutions
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (1, 28), (2, 1)])
@pytest.mark.parametrize("feature_dim", [None, 10])
def test_features(channels, side, feature_dim):
    network = VGG((1, 1, 1, 1, 1), feature_dim=feature_dim, channels=channels)
    # Batch normalisation needs more than one number per channel.
    features = network(torch.rand(4, channels, side, side))
    assert features.shape == (4, feature_dim or 512)
    assert (features >= 0).all()


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="feature_dim must be at least 1, found 0"):
        vgg11(0)
    with pytest.raises(ValueError, match=r"depths\[1\] must be at least 1, found 0"):
        VGG((1, 0, 1, 1, 1))
    with pytest.raises(ValueError, match="depths must be five numbers, one per group, found"):
        VGG((1, 1))
