from __future__ import annotations

import pytest
import torch

from ddn_etf.models import small_convnet


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (10, 3), (1, 2)])
def test_features_have_the_shape_asked_for(size, channels):
    network = small_convnet(12, channels=channels, size=size, width=4)
    features = network(torch.randn(5, channels, size, size))
    assert features.shape == (5, 12)


def test_features_have_either_sign():
    features = small_convnet(8)(torch.randn(32, 1, 8, 8))
    assert features.min() < 0 < features.max()


def test_the_number_of_parameters_that_the_docstring_gives():
    count = sum(parameter.numel() for parameter in small_convnet().parameters())
    assert 71_500 < count < 72_500


@pytest.mark.parametrize("name", ["dim", "channels", "size", "width"])
def test_arguments_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
        small_convnet(**{name: 0})
