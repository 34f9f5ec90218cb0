"""Data sets: real images and synthetic points, split once, in a fixed order."""

from __future__ import annotations

from ddn_etf.data.binary import stl10
from ddn_etf.data.bundled import digits
from ddn_etf.data.cifar import cifar10, cifar100
from ddn_etf.data.dataset import Dataset, LabelledInputs, LazyInputs
from ddn_etf.data.downloads import DownloadError, download
from ddn_etf.data.files import DataFileError
from ddn_etf.data.folders import ImageFiles, ResizeAndCrop, image_folder
from ddn_etf.data.hierarchical import hierarchical_mixture
from ddn_etf.data.idx import fashion_mnist, mnist
from ddn_etf.data.images import ChannelStatistics, image_dataset
from ddn_etf.data.imbalance import (
    ExponentialProfile,
    ImbalanceProfile,
    StepProfile,
    imbalanced,
    imbalanced_counts,
)
from ddn_etf.data.label_noise import (
    AsymmetricNoise,
    LabelNoise,
    SymmetricNoise,
    noisy,
    noisy_labels,
)
from ddn_etf.data.matlab import svhn
from ddn_etf.data.mixtures import gaussian_mixture
from ddn_etf.data.registry import DATASETS, DatasetSource, find_dataset

__all__ = [
    "DATASETS",
    "AsymmetricNoise",
    "ChannelStatistics",
    "DataFileError",
    "Dataset",
    "DatasetSource",
    "DownloadError",
    "ExponentialProfile",
    "ImageFiles",
    "ImbalanceProfile",
    "LabelNoise",
    "LabelledInputs",
    "LazyInputs",
    "ResizeAndCrop",
    "StepProfile",
    "SymmetricNoise",
    "cifar10",
    "cifar100",
    "digits",
    "download",
    "fashion_mnist",
    "find_dataset",
    "gaussian_mixture",
    "hierarchical_mixture",
    "image_dataset",
    "image_folder",
    "imbalanced",
    "imbalanced_counts",
    "mnist",
    "noisy",
    "noisy_labels",
    "stl10",
    "svhn",
]
