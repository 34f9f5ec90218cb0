"""The readers agree with torchvision's, where it can be imported.

torchvision looks at checksums of the published files, which small files cannot have; that check is
passed over here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ddn_etf.data import DATASETS, ChannelStatistics
from tests.ddn_etf.data import formats


@pytest.fixture(scope="module")
def datasets() -> Any:
    try:
        from torchvision import datasets
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return datasets


CASES = {
    "mnist": ("MNIST", "MNIST/raw", formats.write_mnist, "train"),
    "fashion-mnist": ("FashionMNIST", "FashionMNIST/raw", formats.write_mnist, "train"),
    "svhn": ("SVHN", ".", formats.write_svhn, "split"),
    "cifar-10": ("CIFAR10", "cifar-10-batches-py", formats.write_cifar10, "train"),
    "cifar-100": ("CIFAR100", "cifar-100-python", formats.write_cifar100, "train"),
    "stl-10": ("STL10", "stl10_binary", formats.write_stl10, "split"),
}


@pytest.mark.parametrize("name", CASES)
def test_pixels_and_labels(name, datasets, monkeypatch, tmp_path):
    kind, folder, write, keyword = CASES[name]
    write(tmp_path / folder)
    theirs_class = getattr(datasets, kind)
    if hasattr(theirs_class, "_check_integrity"):
        monkeypatch.setattr(theirs_class, "_check_integrity", lambda self: True)
    if hasattr(theirs_class, "_load_meta"):
        monkeypatch.setattr(theirs_class, "_load_meta", lambda self: None)
    ours = DATASETS[name].load(tmp_path)
    for split, inputs, labels in (
        ("train", ours.train_inputs, ours.train_labels),
        ("test", ours.test_inputs, ours.test_labels),
    ):
        theirs = theirs_class(
            tmp_path, **{keyword: split == "train" if keyword == "train" else split}
        )
        pixels = np.stack([np.asarray(theirs[i][0]) for i in range(len(theirs))])
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        if split == "train":
            statistics = ChannelStatistics.of(np.ascontiguousarray(pixels))
        assert [int(theirs[i][1]) for i in range(len(theirs))] == labels.tolist()
        np.testing.assert_array_equal(statistics.standardize(pixels), inputs)
