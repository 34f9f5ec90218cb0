"""Every published set is read from small files in its own format."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn_etf.data import DATASETS, DataFileError, Dataset, cifar100, find_dataset
from ddn_etf.data.cifar import read_pickled_batch
from ddn_etf.data.idx import read_idx
from tests.ddn_etf.data import formats
from tests.ddn_etf.data.formats import Split

LAYOUTS: dict[str, tuple[str, Callable[[Path], dict[str, Split]]]] = {
    "mnist": ("MNIST/raw", formats.write_mnist),
    "fashion-mnist": ("FashionMNIST/raw", formats.write_mnist),
    "svhn": ("svhn", formats.write_svhn),
    "cifar-10": ("cifar-10-batches-py", formats.write_cifar10),
    "cifar-100": ("cifar-100-python", formats.write_cifar100),
    "stl-10": ("stl10_binary", formats.write_stl10),
}


def check(dataset: Dataset, expected: dict[str, Split]) -> None:
    """Labels are the expected ones, and pixels too, up to the standardisation of each channel."""
    mean = expected["train"].pixels.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = expected["train"].pixels.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    for inputs, labels, split in (
        (dataset.train_inputs, dataset.train_labels, expected["train"]),
        (dataset.test_inputs, dataset.test_labels, expected["test"]),
    ):
        assert inputs.dtype == torch.float32
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(labels, split.labels)
        standardised = (split.pixels - mean) / deviation
        np.testing.assert_allclose(inputs, standardised, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("in_its_folder", [True, False], ids=["layout", "files themselves"])
def test_pixels_and_labels(name, in_its_folder, tmp_path):
    folder, write = LAYOUTS[name]
    expected = write(tmp_path / folder)
    dataset = find_dataset(name).load(tmp_path if in_its_folder else tmp_path / folder)
    assert dataset.name == name
    assert (dataset.hierarchy is not None) == DATASETS[name].has_hierarchy
    check(dataset, expected)


def test_every_published_set_is_tested_here():
    needing_files = {name for name, source in DATASETS.items() if source.needs_files}
    assert needing_files == {*LAYOUTS, "image-folder"}


def test_compressed_files(tmp_path):
    expected = formats.write_mnist(tmp_path, compressed=True)
    check(find_dataset("mnist").load(tmp_path), expected)


def test_a_batch_rewritten_by_python_3(tmp_path):
    expected = formats.write_cifar10(tmp_path, python2=False)
    check(find_dataset("cifar-10").load(tmp_path), expected)


def test_the_superclasses_of_cifar_100(tmp_path):
    expected = formats.write_cifar100(tmp_path)
    dataset = cifar100(tmp_path, superclasses=True)
    assert dataset.num_classes == 20
    np.testing.assert_array_equal(dataset.train_labels, expected["train"].labels // 5)
    assert dataset.hierarchy is None


def test_the_hierarchy_of_cifar_100_is_in_the_order_of_the_fine_labels(tmp_path):
    formats.write_cifar100(tmp_path)
    tree = cifar100(tmp_path).hierarchy
    # The data set numbers its fine labels alphabetically.
    assert list(tree.leaf_names) == sorted(tree.leaf_names)
    assert (tree.leaf_names[0], tree.leaf_names[99]) == ("apple", "worm")


@pytest.mark.parametrize("name", [*LAYOUTS, "image-folder"])
def test_a_set_that_needs_files_says_so(name):
    with pytest.raises(ValueError, match=f"'{name}' is read from files: give the folder"):
        find_dataset(name).load()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_folder(name, tmp_path):
    with pytest.raises(DataFileError, match=r"no folder .*absent; .*download\('" + name):
        find_dataset(name).load(tmp_path / "absent")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_file_names_the_places_and_the_remedy(name, tmp_path):
    folder, write = LAYOUTS[name]
    write(tmp_path / folder)
    victim = max((tmp_path / folder).iterdir())
    victim.unlink()
    with pytest.raises(DataFileError, match=r"download\('" + name) as caught:
        find_dataset(name).load(tmp_path)
    assert f"no file {victim.name} in any of {tmp_path / folder}" in str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kept", [0, 3, 0.5, -1], ids=["empty", "3 bytes", "half", "all but one"])
def test_every_truncated_file_is_named(name, kept, tmp_path):
    folder, write = LAYOUTS[name]
    write(tmp_path / folder)
    for victim in (tmp_path / folder).iterdir():
        content = victim.read_bytes()
        victim.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else kept])
        with pytest.raises(DataFileError, match=re.escape(str(tmp_path / folder))):
            find_dataset(name).load(tmp_path)
        victim.write_bytes(content)
    find_dataset(name).load(tmp_path)


def test_a_truncated_compressed_file(tmp_path):
    formats.write_mnist(tmp_path, compressed=True)
    victim = tmp_path / "train-images-idx3-ubyte.gz"
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(DataFileError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        find_dataset("mnist").load(tmp_path)


def test_a_file_that_is_too_long(tmp_path):
    formats.write_mnist(tmp_path)
    victim = tmp_path / "t10k-labels-idx1-ubyte"
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(DataFileError, match="is too long: it holds 29 bytes where 28"):
        find_dataset("mnist").load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x01\x00\x08\x01", "no idx file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "idx type 0x0d"),
        (b"\0\0\x08\x03\0\0", "truncated"),
    ],
)
def test_what_is_no_idx_file_of_bytes(content, message, tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataFileError, match=message):
        read_idx(path)


def out_of_range_mnist(folder: Path) -> Path:
    formats.write_mnist(folder)
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([10]))
    return path


def out_of_range_cifar(folder: Path) -> Path:
    formats.write_cifar10(folder)
    batch = formats.cifar_batch(formats.random_split(10, 3, 32, 10, 0), {b"labels": [10] * 10})
    formats.write_pickle(folder / "data_batch_3", batch)
    return folder / "data_batch_3"


def out_of_range_svhn(folder: Path) -> Path:
    formats.write_svhn(folder)
    path = folder / "test_32x32.mat"
    content = scipy.io.loadmat(path)
    scipy.io.savemat(
        path, {"X": content["X"], "y": np.full((20, 1), 11, np.uint8)}, do_compression=True
    )
    return path


def out_of_range_stl10(folder: Path) -> Path:
    formats.write_stl10(folder)
    path = folder / "test_y.bin"
    path.write_bytes(bytes([0] * 10))
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("mnist", out_of_range_mnist),
        ("cifar-10", out_of_range_cifar),
        ("svhn", out_of_range_svhn),
        ("stl-10", out_of_range_stl10),
    ],
)
def test_a_label_out_of_range_names_file_and_position(name, write, tmp_path):
    path = write(tmp_path)
    with pytest.raises(DataFileError, match=r"label \d+ of \d+ is -?\d+, outside the classes 0..9"):
        find_dataset(name).load(tmp_path)
    with pytest.raises(DataFileError, match=re.escape(str(path))):
        find_dataset(name).load(tmp_path)


def test_svhn_has_no_label_zero(tmp_path):
    formats.write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    scipy.io.savemat(
        path,
        {"X": scipy.io.loadmat(path)["X"], "y": np.zeros((30, 1), np.uint8)},
        do_compression=True,
    )
    with pytest.raises(DataFileError, match="labels run from 1 to 10, found 0"):
        find_dataset("svhn").load(tmp_path)


def test_labels_that_do_not_belong_to_the_images(tmp_path):
    formats.write_mnist(tmp_path)
    formats.write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(7, np.uint8))
    with pytest.raises(DataFileError, match=r"train-labels.* shape \(7,\) .* 30 images"):
        find_dataset("mnist").load(tmp_path)


class Hostile:
    """A pickle of this runs a command when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def test_a_hostile_pickle_is_not_run(tmp_path):
    marker = tmp_path / "it ran"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Hostile(marker)}, protocol=2))
    with pytest.raises(DataFileError, match=r"asks for .*, which no batch of CIFAR does"):
        read_pickled_batch(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the test would notice: unrestricted, it runs
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "instruction"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "LONG_BINPUT"),  # a memo of 2^31 cells
        (pickle.dumps({b"data": b"abc"}, protocol=4), "FRAME"),
    ],
)
def test_instructions_that_no_batch_holds(content, instruction, tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=rf"the pickle instruction {instruction}\("):
        read_pickled_batch(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds a list; a batch of CIFAR is a dict"),
        ({b"data": np.zeros((2, 3072), np.uint8)}, "but not labels"),
        (
            {b"data": np.zeros((2, 10), np.uint8), b"labels": [0, 0]},
            r"data must be .* found \(2, 10\)",
        ),
        ({b"data": b"abc", b"labels": [0]}, "found something else"),
        ({b"data": np.zeros((2, 3072)), b"labels": [0, 0]}, "found something else"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0.5, 0]}, "one integer per image"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, "a"]}, "one integer per image"),
    ],
)
def test_a_batch_of_something_else(value, message, tmp_path):
    formats.write_cifar10(tmp_path)
    formats.write_pickle(tmp_path / "data_batch_2", value)
    with pytest.raises(DataFileError, match=message):
        find_dataset("cifar-10").load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Z": np.zeros(3)}, "no arrays X and y"),
        ({"X": np.zeros((2, 2)), "y": np.ones((2, 1))}, "X must be uint8 of shape"),
    ],
)
def test_a_matlab_file_of_something_else(content, message, tmp_path):
    formats.write_svhn(tmp_path)
    scipy.io.savemat(tmp_path / "train_32x32.mat", content, do_compression=True)
    with pytest.raises(DataFileError, match=message):
        find_dataset("svhn").load(tmp_path)


def test_a_matlab_file_without_checksums_is_refused(tmp_path):
    # SciPy ends in a segmentation fault for some of these files if they are damaged.
    formats.write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    content = scipy.io.loadmat(path)
    scipy.io.savemat(path, {"X": content["X"], "y": content["y"]})
    with pytest.raises(DataFileError, match="version 5 with compressed arrays"):
        find_dataset("svhn").load(tmp_path)


def test_images_of_mnist_that_are_no_images(tmp_path):
    formats.write_mnist(tmp_path)
    formats.write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros(7, np.uint8))
    with pytest.raises(DataFileError, match=r"array of shape \(7,\); images are"):
        find_dataset("mnist").load(tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown data set 'cifar' .*; known: digits, .*cifar-100"
    ):
        find_dataset("cifar")


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: b"\0\0\x08\x02" + tail))
def test_any_bytes_are_an_idx_file_or_a_clear_error(content):
    with tempfile.TemporaryDirectory() as folder:
        path, rewritten = Path(folder, "images"), Path(folder, "again")
        path.write_bytes(content)
        try:
            array = read_idx(path)
        except DataFileError:
            return
        formats.write_idx(rewritten, array)
        assert rewritten.read_bytes() == content


@given(st.data())
def test_a_damaged_batch_is_a_batch_or_a_clear_error(data):
    # NumPy's own unpickling ends in a segmentation fault for some of these files.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data_batch_1")
        split = formats.random_split(2, 3, 1, 2, 0)
        formats.write_pickle(path, formats.cifar_batch(split, {b"labels": [0, 1]}))
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with contextlib.suppress(DataFileError):
            assert isinstance(read_pickled_batch(path), dict)
