from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf.hierarchy import FeatureTransform


def test_is_the_published_stack():
    torch.manual_seed(0)
    transform = FeatureTransform(6, 4).double()
    convolution = nn.Conv2d(6, 4, kernel_size=1, bias=False).double()
    with torch.no_grad():
        convolution.weight.copy_(transform.projection.weight[:, :, None, None])
    maps = torch.randn(5, 6, 3, 2, dtype=torch.float64)
    pooled = nn.functional.adaptive_avg_pool2d(convolution(maps), 1).flatten(1)
    expected = (pooled - pooled.mean(0)) / (pooled.var(0, correction=0) + 1e-5).sqrt()
    for block in transform.blocks:
        step = expected
        for linear, activation in zip(block.layers[::3], block.layers[2::3], strict=True):
            step = step @ linear.weight.mT
            step = (step - step.mean(0)) / (step.var(0, correction=0) + 1e-5).sqrt()
            step = torch.where(step > 0, step, activation.weight * step)
        expected = expected + step
    assert_close(transform(maps), expected)
    kinds = [type(layer).__name__ for layer in transform.blocks[0].layers]
    assert kinds == ["Linear", "BatchNorm1d", "PReLU"] * 2
    assert len(transform.blocks) == 2


def test_vectors_are_maps_that_are_averaged():
    transform = FeatureTransform(6, 4).eval()
    maps = torch.randn(5, 6, 3, 3)
    assert_close(transform(maps), transform(maps.mean(dim=(2, 3))))


def test_without_blocks_and_gradient():
    transform = FeatureTransform(3, 2, blocks=0).double()
    features = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform, features)
    assert len(list(FeatureTransform(3, 2).parameters())) == 1 + 2 + 2 * (2 * 1 + 2 * 2 + 2)


def test_bad_input():
    transform = FeatureTransform(6, 4)
    for shape in [(5, 7), (6,), (5, 6, 3), (2, 7, 3, 3)]:
        with pytest.raises(ShapeError, match=r"shape \(N, 6\) or \(N, 6, height, width\)"):
            transform(torch.randn(shape))
    with pytest.raises(DtypeError, match="real floating-point"):
        transform(torch.ones(5, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match="out_dim must be at least 1"):
        FeatureTransform(6, 0)
    with pytest.raises(ValueError, match="blocks must be at least 0"):
        FeatureTransform(6, 4, blocks=-1)
    with pytest.raises(TypeError, match="in_dim must be an integer"):
        FeatureTransform(6.0, 4)
