"""MNIST and Fashion-MNIST: the idx format.

A file holds two zero bytes, the type of the numbers (8: unsigned bytes), the number of dimensions,
each dimension as a big-endian 32-bit integer, and then the numbers, the last dimension fastest.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddn_etf.data.dataset import Dataset
from ddn_etf.data.downloads import how_to_download
from ddn_etf.data.files import (
    DataFileError,
    check_file_labels,
    check_length,
    find_file,
    read_bytes,
)
from ddn_etf.data.images import image_dataset

__all__ = ["fashion_mnist", "mnist", "read_idx"]


def mnist(root: Path) -> Dataset:
    """Handwritten digits: 60 000 train and 10 000 test images of 28 x 28 pixels, 10 classes.

    Args:
        root: the folder that holds ``MNIST/raw`` (torchvision's layout), or the four files
            themselves, ``train-images-idx3-ubyte`` and so on, compressed with gzip or not.

    Returns:
        Inputs (N, 1, 28, 28), float32, standardised on the train split.

    Raises:
        DataFileError: a file is missing, truncated or damaged.

    Source: Y. LeCun, C. Cortes and C. Burges, *The MNIST database of handwritten digits*, 1998.
    """
    return _read("mnist", "MNIST", root)


def fashion_mnist(root: Path) -> Dataset:
    """Pictures of clothing, in the format and the sizes of MNIST.

    Args:
        root: the folder that holds ``FashionMNIST/raw`` (torchvision's layout), or the four files.

    Returns:
        Inputs (N, 1, 28, 28), float32, standardised on the train split.

    Raises:
        DataFileError: a file is missing, truncated or damaged.

    Source: H. Xiao, K. Rasul and R. Vollgraf, *Fashion-MNIST*, 2017.
    """
    return _read("fashion-mnist", "FashionMNIST", root)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an idx file.

    Raises:
        DataFileError: not such a file, or more or fewer bytes than its header says.
    """
    content = read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataFileError(
            f"{path} is no idx file: it does not start with two zero bytes; fetch it again"
        )
    kind, dimensions = content[2], content[3]
    if kind != 8:
        raise DataFileError(
            f"{path} holds numbers of idx type {kind:#04x}; images and labels are unsigned bytes, "
            "type 0x08: give the original file"
        )
    header = 4 + 4 * dimensions
    if len(content) < header:
        check_length(path, len(content), header)
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    check_length(path, len(content), header + math.prod(shape))
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read(name: str, title: str, root: Path) -> Dataset:
    def split(prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        image_path, label_path = (
            find_file(title, f"{prefix}-{part}", root, [f"{title}/raw"], how_to_download(name))
            for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        images, labels = read_idx(image_path), read_idx(label_path)
        if images.ndim != 3 or not len(images):
            raise DataFileError(
                f"{image_path} holds an array of shape {images.shape}; images are (N, 28, 28)"
            )
        return images[:, None], check_file_labels(label_path, labels, len(images), 10)

    return image_dataset(name, 10, split("train"), split("t10k"))
