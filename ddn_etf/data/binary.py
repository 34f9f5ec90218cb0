"""STL-10: bytes one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddn_etf.data.dataset import Dataset
from ddn_etf.data.downloads import how_to_download
from ddn_etf.data.files import check_file_labels, check_length, find_file, read_bytes
from ddn_etf.data.images import image_dataset

__all__ = ["stl10"]

_SIDE = 96
_IMAGE_BYTES = 3 * _SIDE * _SIDE


def stl10(root: Path) -> Dataset:
    """5 000 train and 8 000 test images of 96 x 96 pixels in colour, 10 classes.

    ``train_X.bin`` holds image after image, each red before green before blue and each colour column
    by column; ``train_y.bin`` one byte per image, 1 to 10; here labels are 0 to 9. The 100 000
    images without labels are not read. In memory: 1.4 GB.

    Args:
        root: the folder that holds ``stl10_binary``, or that folder itself.

    Returns:
        Inputs (N, 3, 96, 96), float32, standardised on the train split.

    Raises:
        DataFileError: a file is missing, truncated or damaged.

    Source: A. Coates, H. Lee and A. Ng, *An Analysis of Single-Layer Networks in Unsupervised
    Feature Learning*, AISTATS 2011.
    """
    return image_dataset("stl-10", 10, _split("train", root), _split("test", root))


def _split(split: str, root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    image_path, label_path = (
        find_file(
            "STL-10", f"{split}_{part}.bin", root, ["stl10_binary"], how_to_download("stl-10")
        )
        for part in "Xy"
    )
    content, labels = read_bytes(image_path), read_bytes(label_path)
    count = max(1, -(-len(content) // _IMAGE_BYTES))  # at least one, and whole images
    check_length(image_path, len(content), count * _IMAGE_BYTES)
    columns_first = np.frombuffer(content, np.uint8).reshape(count, 3, _SIDE, _SIDE)
    zero_based = np.frombuffer(labels, np.uint8).astype(np.int64) - 1
    return (
        np.ascontiguousarray(columns_first.swapaxes(2, 3)),
        check_file_labels(label_path, zero_based, count, 10),
    )
