from __future__ import annotations

import pytest
import torch
from torch import nn

from ddn_etf.heads import FixedETFHead, LinearHead
from ddn_etf.models import ResNet, resnet18, resnet34, resnet50
from ddn_etf.models.resnet import BasicBlock, Bottleneck


def trained(*modules: nn.Module) -> int:
    return sum(
        parameter.numel()
        for module in modules
        for parameter in module.parameters()
        if parameter.requires_grad
    )


def test_the_published_parameter_counts():
    # Zhu et al. (2021): ResNet-18, 10 classes, learned with d = 512, and d = K with a fixed ETF.
    # Their bias is learned in both.
    K = 10
    learned = trained(resnet18(), LinearHead(512, K))
    fixed = trained(resnet18(K), FixedETFHead(K, K, temperature=None)) + K
    assert learned == 11_173_962
    assert fixed == 8_859_762
    assert round(100 * (fixed / learned - 1), 2) == -20.71


@pytest.mark.parametrize(
    ("make", "parameters"),
    # torchvision's counts for 1000 classes, less those of the last layer, 1000 (d + 1).
    [
        (resnet18, 11_689_512 - 513_000),
        (resnet34, 21_797_672 - 513_000),
        (resnet50, 25_557_032 - 2_049_000),
    ],
)
def test_the_parameter_counts_for_large_images(make, parameters):
    assert trained(make(small_images=False)) == parameters


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("feature_dim", [None, 7])
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (3, 33)])
def test_features_of_small_images(block, feature_dim, channels, side):
    network = ResNet(block, (1, 1, 1, 1), feature_dim=feature_dim, channels=channels)
    features = network(torch.rand(2, channels, side, side))
    assert features.shape == (2, feature_dim or 512 * block.expansion)
    assert network.feature_dim == features.shape[1]
    assert (features >= 0).all()
    assert features.max() > 0


def test_the_stem_for_large_images_reduces_fourfold():
    images = torch.rand(2, 3, 64, 64)
    large = ResNet(BasicBlock, (1, 1, 1, 1), small_images=False)
    stem = large.maxpool(large.relu(large.bn1(large.conv1(images))))
    assert stem.shape == (2, 64, 16, 16)
    small = ResNet(BasicBlock, (1, 1, 1, 1))
    assert small.conv1(images).shape == (2, 64, 64, 64)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_is_the_identity_plus_a_branch(block):
    module = block(8, 4, 8, 1).eval()
    x = torch.rand(2, 8, 5, 5)
    last = module.bn3 if block is Bottleneck else module.bn2
    nn.init.zeros_(last.weight)
    assert torch.equal(module(x), x)


def test_only_the_last_block_depends_on_the_number_of_features():
    full, narrow = resnet18().state_dict(), resnet18(10).state_dict()
    different = {
        name
        for name in full.keys() | narrow.keys()
        if name not in full or name not in narrow or full[name].shape != narrow[name].shape
    }
    assert {name.rpartition(".")[0] for name in different} == {
        "layer4.1.conv2",
        "layer4.1.bn2",
        "layer4.1.downsample.0",
        "layer4.1.downsample.1",
    }


def test_every_parameter_gets_a_gradient():
    network = ResNet(BasicBlock, (1, 1, 1, 1), feature_dim=5, channels=1)
    network(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("option", ["feature_dim", "channels"])
def test_numbers_out_of_range(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, found 0"):
        resnet18(**{option: 0})
    with pytest.raises(ValueError, match=r"depths\[2\] must be at least 1, found 0"):
        ResNet(BasicBlock, (1, 1, 0, 1))
