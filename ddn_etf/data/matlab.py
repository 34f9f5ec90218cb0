"""SVHN: house numbers, in the format of MATLAB."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from ddn_etf.data.dataset import Dataset
from ddn_etf.data.downloads import how_to_download
from ddn_etf.data.files import DataFileError, check_file_labels, find_file, read_bytes
from ddn_etf.data.images import image_dataset

__all__ = ["svhn"]


def svhn(root: Path) -> Dataset:
    """Street View house numbers, cropped: 73 257 train and 26 032 test images of 32 x 32 pixels.

    A file holds X (32, 32, 3, N) and y (N, 1) with labels 1 to 10, where 10 stands for the digit 0;
    here the label is the digit. Classes are unequal: there are three times as many ones as nines.

    Args:
        root: the folder that holds ``train_32x32.mat`` and ``test_32x32.mat``, or ``svhn`` in it.

    Returns:
        Inputs (N, 3, 32, 32), float32, standardised on the train split.

    Raises:
        DataFileError: a file is missing, truncated or damaged.

    Source: Y. Netzer et al., *Reading Digits in Natural Images with Unsupervised Feature Learning*,
    2011.
    """
    remedy = how_to_download("svhn")
    train, test = (
        _split(find_file("SVHN", f"{split}_32x32.mat", root, ["svhn", "SVHN"], remedy))
        for split in ("train", "test")
    )
    return image_dataset("svhn", 10, train, test)


def _check_compressed(path: Path, content: bytes) -> None:
    """Refuse what no checksum protects: SciPy may crash on a damaged array that is not compressed.

    After 128 bytes, which end in the byte order, arrays follow, each with its type and its length in
    bytes; type 15 is a compressed one (MathWorks, *MAT-File Format*, version 5).
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    position, kinds = 128, set()
    while order and position + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, position)
        kinds.add(kind)
        position += 8 + length
    if kinds != {15}:
        raise DataFileError(
            f"{path} is no MATLAB file of version 5 with compressed arrays, as the published ones "
            "are; delete it and fetch it again, or write it with compression"
        )


def _split(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    written = read_bytes(path)
    _check_compressed(path, written)
    try:
        content = scipy.io.loadmat(io.BytesIO(written), variable_names=["X", "y"])
    except Exception as error:  # a damaged file can end in any exception
        raise DataFileError(
            f"{path} cannot be read as a MATLAB file ({type(error).__name__}: {error}); it is "
            "truncated or damaged: delete it and fetch it again"
        ) from error
    if not {"X", "y"} <= content.keys():
        raise DataFileError(f"{path} has no arrays X and y; the cropped digits (format 2) have")
    pixels, labels = content["X"], content["y"].ravel()
    if pixels.dtype != np.uint8 or pixels.shape[:3] != (32, 32, 3) or pixels.ndim != 4:
        raise DataFileError(
            f"{path}: X must be uint8 of shape (32, 32, 3, N), found {pixels.dtype} {pixels.shape}"
        )
    if labels.size and labels.min() < 1:
        raise DataFileError(f"{path}: labels run from 1 to 10, found {labels.min()}")
    labels = np.where(labels == 10, 0, np.where(labels == 0, -1, labels.astype(np.int64)))
    # A label above 10 is out of range as it stands.
    return (
        np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)),
        check_file_labels(path, labels, pixels.shape[3], 10),
    )
