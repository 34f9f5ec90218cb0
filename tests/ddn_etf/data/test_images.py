from __future__ import annotations

import numpy as np
import pytest
import torch

from ddn.errors import DtypeError, ShapeError
from ddn_etf.data import ChannelStatistics, image_dataset
from ddn_etf.errors import LabelError


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 5, 4), dtype=np.uint8)


def test_statistics_are_those_of_the_pixels():
    images = pixels(5000, 0)  # more than are counted at once
    statistics = ChannelStatistics.of(images)
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(statistics.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(
        statistics.standard_deviation, scaled.std(axis=(0, 2, 3)), rtol=1e-12
    )


def test_only_the_train_split_decides():
    train = (pixels(8, 0), np.arange(8) % 2)
    first = image_dataset("a", 2, train, (pixels(4, 1), np.arange(4) % 2))
    second = image_dataset("a", 2, train, (pixels(4, 2) // 4, np.arange(4) % 2))
    assert torch.equal(first.train_inputs, second.train_inputs)
    inputs = first.train_inputs.double()
    assert inputs.mean(dim=(0, 2, 3)).abs().max() < 1e-6
    assert (inputs.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-6
    assert first.test_inputs.mean(dim=(0, 2, 3)).abs().max() > 1e-3


def test_a_constant_channel_becomes_zero():
    images = pixels(8, 0)
    images[:, 1] = 77
    inputs = ChannelStatistics.of(images).standardize(images)
    assert (inputs[:, 1].abs() < 1e-6).all()
    assert torch.isfinite(inputs).all()


def test_what_is_no_image():
    good = (pixels(4, 0), np.arange(4) % 2)
    with pytest.raises(DtypeError, match=r"the test pixels must be uint8 .* found float64"):
        image_dataset("a", 2, good, (good[0] / 255, good[1]))
    with pytest.raises(ShapeError, match=r"the train pixels must be uint8 .* \(4, 3, 5\)"):
        image_dataset("a", 2, (good[0][..., 0], good[1]), good)
    with pytest.raises(ShapeError, match="train images have 3 channels, test images 1"):
        image_dataset("a", 2, good, (good[0][:, :1], good[1]))
    with pytest.raises(LabelError, match="train split is empty"):
        image_dataset("a", 2, (good[0][:0], good[1][:0]), good)
