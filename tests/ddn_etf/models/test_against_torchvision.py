"""The networks are torchvision's, number for number, where it can be imported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ddn_etf.models import resnet18, resnet34, resnet50, vgg11, vgg13, vgg16, vgg19


@pytest.fixture(scope="module")
def models() -> Any:
    try:
        from torchvision import models
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return models


@pytest.mark.parametrize("make", [resnet18, resnet34, resnet50])
@pytest.mark.parametrize("small_images", [True, False])
def test_resnets(make, small_images, models):
    theirs = getattr(models, make.__name__)()
    theirs.fc = nn.Identity()
    if small_images:
        theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        theirs.maxpool = nn.Identity()
    ours = make(small_images=small_images)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("make", [vgg11, vgg13, vgg16, vgg19])
def test_vggs(make, models):
    theirs = getattr(models, f"{make.__name__}_bn")(init_weights=False).features
    ours = make()
    ours.features.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.eval()(images).mean(dim=(2, 3))
        torch.testing.assert_close(ours.eval()(images), expected)
