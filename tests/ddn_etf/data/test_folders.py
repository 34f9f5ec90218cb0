"""Folders of images: read when asked for, by number, by list and by worker."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ddn_etf.batches import ShuffledBatches
from ddn_etf.data import (
    ChannelStatistics,
    DataFileError,
    ExponentialProfile,
    ResizeAndCrop,
    find_dataset,
    image_folder,
    imbalanced,
)
from tests.ddn_etf.data import formats

#: Pixels as they are, divided by 255.
UNCHANGED = ChannelStatistics((0.0,) * 3, (1.0,) * 3)


def whole(image: Image.Image) -> Image.Image:
    """A view of the whole image."""
    return image


def test_pixels_and_labels(tmp_path):
    expected = formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=12, train_view=whole, statistics=UNCHANGED)
    assert dataset.num_classes == 2
    assert dataset.input_shape == (3, 12, 12)
    np.testing.assert_array_equal(dataset.train_labels, expected["train"].labels)
    np.testing.assert_array_equal(dataset.test_labels, expected["test"].labels)
    pixels = (dataset.train_inputs[list(range(6))] * 255).round()
    np.testing.assert_array_equal(pixels, expected["train"].pixels)


def test_indices_of_every_kind(tmp_path):
    formats.write_image_folder(tmp_path)
    inputs = image_folder(tmp_path, size=12).train_inputs
    assert inputs[2].shape == (3, 12, 12)
    assert torch.equal(inputs[[4, 2]], torch.stack([inputs[4], inputs[2]]))
    assert torch.equal(inputs[torch.tensor([4, 2])], inputs[[4, 2]])
    assert torch.equal(inputs[torch.tensor(3)], inputs[3])
    assert torch.equal(inputs[np.int64(3)], inputs[3])
    assert torch.equal(inputs[1:3], inputs[[1, 2]])
    assert inputs.shape == (6, 3, 12, 12)
    with pytest.raises(IndexError):
        inputs[6]


def test_statistics_come_from_the_views_of_the_train_split(tmp_path):
    expected = formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=12, train_view=whole)
    middle = ResizeAndCrop(12)
    views = np.stack(
        [
            np.asarray(middle(Image.fromarray(pixels.transpose(1, 2, 0)))).transpose(2, 0, 1)
            for pixels in expected["train"].pixels
        ]
    )
    assert dataset.train_inputs.statistics == ChannelStatistics.of(views)
    assert dataset.test_inputs.statistics == ChannelStatistics.of(views)


def test_statistics_from_a_sample_of_the_images(tmp_path):
    formats.write_image_folder(tmp_path)
    every = image_folder(tmp_path, size=12)
    some = image_folder(tmp_path, size=12, sample=2)
    assert some.train_inputs.statistics != every.train_inputs.statistics
    assert len(some.train_inputs) == 6


def test_the_registry_reads_them_at_224_pixels(tmp_path):
    formats.write_image_folder(tmp_path)
    assert find_dataset("image-folder").load(tmp_path).input_shape == (3, 224, 224)


def test_workers_see_the_same_batches_and_name_an_unreadable_image(tmp_path):
    formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=12)
    batches = ShuffledBatches(6, 3, seed=0)
    here = list(DataLoader(dataset.train_split, sampler=batches, batch_size=None))
    loader = DataLoader(
        dataset.train_split,
        sampler=batches,
        batch_size=None,
        num_workers=1,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    for (inputs, labels), (worker_inputs, worker_labels) in zip(here, loader, strict=True):
        assert torch.equal(inputs, worker_inputs)
        assert torch.equal(labels, worker_labels)
    dataset.train_inputs.paths[0].write_bytes(b"no image")
    with pytest.raises(DataFileError, match=r"n01440764/000\.PNG cannot be decoded"):
        list(loader)


def test_an_imbalanced_selection_stays_unread(tmp_path):
    formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=12)
    for path in dataset.train_inputs.paths:
        path.unlink()  # nothing is read from here on
    selected = imbalanced(dataset, ExponentialProfile(3))
    assert selected.train_counts == [3, 1]
    assert set(selected.train_inputs.paths) < set(dataset.train_inputs.paths)


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "truncated"])
def test_an_unreadable_image_is_named(content, tmp_path):
    formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=12)
    victim = dataset.train_inputs.paths[4]
    victim.write_bytes(victim.read_bytes()[:-100] if content is None else content)
    with pytest.raises(
        DataFileError, match=re.escape(str(victim)) + " cannot be decoded .* move it out"
    ):
        dataset.train_inputs[[0, 4]]
    assert dataset.train_inputs[[0, 1]].shape == (2, 3, 12, 12)


def test_grey_and_transparent_images_become_coloured_ones(tmp_path):
    formats.write_image_folder(tmp_path)
    folder = tmp_path / "train" / "n01440764"
    Image.new("L", (12, 12), 100).save(folder / "000.PNG")
    Image.new("RGBA", (12, 12), (10, 20, 30, 0)).save(folder / "002.PNG")
    inputs = image_folder(tmp_path, size=12, train_view=whole, statistics=UNCHANGED).train_inputs
    assert ((inputs[0] * 255).round() == 100).all()
    assert (inputs[1] * 255).round()[:, 0, 0].tolist() == [10, 20, 30]


def test_a_view_of_another_size(tmp_path):
    formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=8, train_view=whole)
    with pytest.raises(DataFileError, match=r"shape \(12, 12, 3\) by .*; expected \(8, 8, 3\)"):
        dataset.train_inputs[0]


def test_the_middle_of_an_image():
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[1:15, 9:23] = 255  # the 14 x 14 pixels in the middle
    view = ResizeAndCrop(7, kept=14 / 16)(Image.fromarray(wide))
    assert view.size == (7, 7)
    # Interpolation takes in what lies next to the square, at its edge.
    assert (np.asarray(view)[1:-1, 1:-1] == 255).all()
    assert (np.asarray(ResizeAndCrop(8, kept=1.0)(Image.fromarray(wide)))[:, 0] < 255).all()


@pytest.mark.parametrize("kept", [0, 1.5])
def test_a_share_out_of_range(kept):
    with pytest.raises(ValueError, match=r"kept must lie in \(0, 1\]"):
        ResizeAndCrop(8, kept=kept)


def test_missing_folders(tmp_path):
    with pytest.raises(DataFileError, match="has no folder train: expected train and val"):
        image_folder(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataFileError, match="has no folder test: expected train and val"):
        image_folder(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(DataFileError, match="train holds no folders: expected one per class"):
        image_folder(tmp_path)
    (tmp_path / "train" / "cat").mkdir()
    (tmp_path / "val" / "cat").mkdir()
    with pytest.raises(DataFileError, match=r"train holds no images \(\.bmp"):
        image_folder(tmp_path)


def test_a_test_class_that_is_no_train_class(tmp_path):
    formats.write_image_folder(tmp_path)
    (tmp_path / "val" / "n99999999").mkdir()
    with pytest.raises(DataFileError, match="val/n99999999 is no class of the train folder"):
        image_folder(tmp_path)


def test_a_dataset_may_mix_lazy_and_whole_splits(tmp_path):
    formats.write_image_folder(tmp_path)
    dataset = image_folder(tmp_path, size=12)
    mixed = replace(dataset, test_inputs=dataset.test_inputs[list(range(4))])
    assert torch.equal(mixed.test_split[1][0], dataset.test_split[1][0])


def test_images_are_indexed_as_a_tensor_is(tmp_path):
    formats.write_image_folder(tmp_path)
    lazy = image_folder(str(tmp_path), size=12).train_inputs
    whole_split = lazy[:]
    mask = torch.arange(len(lazy)) % 2 == 1
    for index in (
        mask,
        mask.numpy(),
        mask.tolist(),
        torch.tensor([3, 0]),
        np.array([3, -1]),
        [],
        slice(1, 4),
        (2, 2),
    ):
        taken = list(index) if isinstance(index, tuple) else index
        assert torch.equal(lazy[index], whole_split[taken])
    assert torch.equal(lazy[np.int64(2)], whole_split[2])
    assert lazy.select(mask).paths == lazy.select([1, 3, 5]).paths == lazy.paths[1::2]
    for wrong in (1.0, "a", [0.5], mask[:2], [[0, 1]], None):
        with pytest.raises(TypeError, match="an image is chosen by an integer"):
            lazy[wrong]
    for outside in (len(lazy), [0, -len(lazy) - 1]):
        with pytest.raises(IndexError, match="is out of range of 6 images"):
            lazy[outside]


def test_the_name_of_a_folder_and_its_size(tmp_path, monkeypatch):
    formats.write_image_folder(tmp_path)
    assert image_folder(tmp_path, size=12).name == f"{tmp_path.name}, size 12"
    monkeypatch.chdir(tmp_path)
    assert image_folder(".", statistics=UNCHANGED).name == tmp_path.name
