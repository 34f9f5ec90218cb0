"""Fetch the published sets, with torchvision; reading them needs no torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddn.errors import DeclarativeNodeError
from ddn_etf._extras import optional_import

__all__ = ["DOWNLOADS", "DownloadError", "download", "how_to_download"]


class DownloadError(DeclarativeNodeError, RuntimeError):
    """A data set that could not be fetched, or a torchvision that cannot be used."""


def _train_and_test(torchvision_class: str) -> Callable[[Any, str], None]:
    def fetch(datasets: Any, root: str) -> None:
        for train in (True, False):
            getattr(datasets, torchvision_class)(root, train=train, download=True)

    return fetch


def _splits(torchvision_class: str) -> Callable[[Any, str], None]:
    def fetch(datasets: Any, root: str) -> None:
        for split in ("train", "test"):
            getattr(datasets, torchvision_class)(root, split=split, download=True)

    return fetch


DOWNLOADS: dict[str, Callable[[Any, str], None]] = {
    "mnist": _train_and_test("MNIST"),
    "fashion-mnist": _train_and_test("FashionMNIST"),
    "svhn": _splits("SVHN"),
    "cifar-10": _train_and_test("CIFAR10"),
    "cifar-100": _train_and_test("CIFAR100"),
    "stl-10": _splits("STL10"),
}
"""The sets that can be fetched: (torchvision.datasets, folder) -> None."""


def how_to_download(name: str) -> str:
    """The remedy at the end of a message about a missing file."""
    return (
        f"give the folder that holds them, or fetch them into it with "
        f"ddn_etf.data.download({name!r}, folder)"
    )


def download(name: str, root: Path) -> None:
    """Fetch one set into a folder, from where torchvision knows it; checksums are verified.

    What is there already is not fetched again. torchvision must belong to the torch that is
    installed: each of its releases is built for one release of torch, with or without CUDA.

    Args:
        name: one of :data:`DOWNLOADS`, such as ``"cifar-10"``.
        root: the folder, made if need be; it is what ``find_dataset(name).load(root)`` takes.

    Raises:
        ValueError: the name is not known.
        MissingDependencyError: torchvision is not installed.
        DownloadError: torchvision does not fit the installed torch, or the files cannot be fetched
            or written.
    """
    if name not in DOWNLOADS:
        raise ValueError(f"cannot download {name!r}; known: {', '.join(DOWNLOADS)}")
    with optional_import("vision", f"The download of {name}"):
        try:
            from torchvision import datasets
        except ModuleNotFoundError:
            raise
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            raise DownloadError(
                f"torchvision is installed but cannot be imported ({error}): it was built for "
                "another torch. Install the release that belongs to yours, from the same index "
                "(a torch without CUDA needs the torchvision without CUDA)"
            ) from error
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    try:
        DOWNLOADS[name](datasets, str(root))
    except (OSError, RuntimeError) as error:
        raise DownloadError(f"{name} could not be fetched into {root}: {error}") from error
