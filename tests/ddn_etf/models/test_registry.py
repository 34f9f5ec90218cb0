from __future__ import annotations

import pytest
import torch
from torch import nn

from ddn.errors import ShapeError
from ddn_etf.models import MODELS, find_model, mlp, small_convnet
from ddn_etf.models.registry import SMALL_IMAGE


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("input_shape", [(1, 8, 8), (3, 32, 32)])
def test_every_backbone_maps_inputs_to_features(name, input_shape):
    network = find_model(name).build(7, input_shape)
    with torch.no_grad():
        assert network(torch.rand(2, *input_shape)).shape == (2, 7)


def test_the_small_network_is_that_of_its_function():
    torch.manual_seed(0)
    built = find_model("small-convnet").build(5, (3, 16, 16))
    torch.manual_seed(0)
    made = small_convnet(5, channels=3, size=16)
    assert all(
        torch.equal(first, second)
        for first, second in zip(built.parameters(), made.parameters(), strict=True)
    )


def test_the_stem_follows_the_size_of_the_images():
    small = find_model("resnet18").build(5, (3, SMALL_IMAGE, SMALL_IMAGE))
    large = find_model("resnet18").build(5, (3, SMALL_IMAGE, SMALL_IMAGE + 1))
    assert small.conv1.kernel_size == (3, 3)
    assert large.conv1.kernel_size == (7, 7)


def test_inputs_of_any_shape():
    for input_shape in ((32,), (2, 3), (1, 4, 5)):
        network = find_model("mlp").build(6, input_shape)
        assert network(torch.rand(3, *input_shape)).shape == (3, 6)


def test_the_layers_of_a_perceptron():
    layers = [layer for layer in mlp(4, inputs=9, width=5, depth=3) if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (9, 5),
        (5, 5),
        (5, 5),
        (5, 4),
    ]
    with pytest.raises(ValueError, match="width must be at least 1, found 0"):
        mlp(4, inputs=9, width=0)
    with pytest.raises(ValueError, match="depth must be at least 0, found -1"):
        mlp(4, inputs=9, depth=-1)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"mlp"}))
def test_networks_for_images_refuse_points(name):
    with pytest.raises(
        ValueError, match=rf"{name} takes images .* \(32,\); use the backbone 'mlp'"
    ):
        find_model(name).build(7, (32,))


def test_an_oblong_image():
    with pytest.raises(ValueError, match="takes square images, but an input has 8 x 9"):
        find_model("small-convnet").build(7, (1, 8, 9))
    assert find_model("resnet18").build(7, (1, 8, 9))(torch.rand(2, 1, 8, 9)).shape == (2, 7)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown backbone 'resnet' .*; known: small-convnet, mlp"
    ):
        find_model("resnet")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(), 3, None, (3, 0, 32), (3, 32.0, 32), "abc"])
def test_shapes_that_are_none(name, shape):
    with pytest.raises((TypeError, ValueError), match="input_shape"):
        find_model(name).build(8, shape)


def test_inputs_that_a_network_was_not_built_for():
    network = find_model("mlp").build(4, (3, 5))
    assert network(torch.ones(2, 15)).shape == (2, 4)
    with pytest.raises(ShapeError, match=r"15 numbers per sample, and found \(2, 3, 4\)"):
        network(torch.ones(2, 3, 4))
    with pytest.raises(ShapeError, match=r"found \(15,\)"):
        network(torch.ones(15))
    with pytest.raises(ShapeError, match=r"256 numbers per sample, and found \(2, 64, 3, 3\)"):
        find_model("small-convnet").build(4, (1, 8, 8))(torch.ones(2, 1, 12, 12))
    with pytest.raises(TypeError, match="looked up by its name"):
        find_model(None)
