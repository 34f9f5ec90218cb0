"""The data sets that ``ddn-etf`` knows by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ddn_etf._names import find_named
from ddn_etf.data.binary import stl10
from ddn_etf.data.bundled import digits
from ddn_etf.data.cifar import cifar10, cifar100
from ddn_etf.data.dataset import Dataset
from ddn_etf.data.folders import image_folder
from ddn_etf.data.hierarchical import hierarchical_mixture
from ddn_etf.data.idx import fashion_mnist, mnist
from ddn_etf.data.matlab import svhn
from ddn_etf.data.mixtures import gaussian_mixture
from ddn_etf.hierarchy.known import balanced_hierarchy

__all__ = ["DATASETS", "DatasetSource", "find_dataset", "names_with_hierarchy"]


@dataclass(frozen=True)
class DatasetSource:
    """One data set, and where it comes from.

    Attributes:
        name: what the command line and the files call it.
        title: what tables and figures call it.
        needs_files: whether :meth:`load` needs a folder.
        read: from the folder to the set; None in place of a folder where no files are needed.
        has_hierarchy: whether the set comes with a hierarchy of its classes.
    """

    name: str
    title: str
    needs_files: bool
    read: Callable[[Path | None], Dataset]
    has_hierarchy: bool = False

    def load(self, root: Path | None = None) -> Dataset:
        """Read the set.

        Args:
            root: the folder that holds the files; ignored by a set that needs none.

        Raises:
            ValueError: the set needs files and no folder is given.
            DataFileError: a file is missing, truncated or damaged.
        """
        if self.needs_files and root is None:
            raise ValueError(
                f"the data set {self.name!r} is read from files: give the folder that holds them"
            )
        return self.read(root)


def _bundled(
    name: str, title: str, make: Callable[[], Dataset], *, has_hierarchy: bool = False
) -> DatasetSource:
    return DatasetSource(name, title, False, lambda root: make(), has_hierarchy)


def _published(
    name: str, title: str, read: Callable[[Path], Dataset], *, has_hierarchy: bool = False
) -> DatasetSource:
    return DatasetSource(name, title, True, lambda root: read(Path(root or ".")), has_hierarchy)


def _three_levels_of_four() -> Dataset:
    return hierarchical_mixture(balanced_hierarchy((4, 4, 4)))


DATASETS: dict[str, DatasetSource] = {
    source.name: source
    for source in (
        _bundled("digits", "handwritten digits", digits, has_hierarchy=True),
        _bundled("gaussian-mixture", "Gaussian mixture", gaussian_mixture),
        _bundled(
            "hierarchical-mixture",
            "hierarchical mixture",
            _three_levels_of_four,
            has_hierarchy=True,
        ),
        _published("mnist", "MNIST", mnist),
        _published("fashion-mnist", "Fashion-MNIST", fashion_mnist),
        _published("svhn", "SVHN", svhn),
        _published("cifar-10", "CIFAR-10", cifar10),
        _published("cifar-100", "CIFAR-100", cifar100, has_hierarchy=True),
        _published("stl-10", "STL-10", stl10),
        _published("image-folder", "folder of images", image_folder),
    )
}
"""All sets by name."""


def find_dataset(name: str) -> DatasetSource:
    """Look up one data set.

    Raises:
        TypeError: the name is no text.
        ValueError: the name is not known; the message lists those that are.
    """
    return find_named("data set", name, DATASETS)


def names_with_hierarchy() -> str:
    """The data sets that have a hierarchy of their classes, for messages."""
    return ", ".join(name for name, source in DATASETS.items() if source.has_hierarchy)
