"""What can go wrong before anything is fetched; nothing is fetched in a test."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace

import pytest

from ddn.errors import MissingDependencyError
from ddn_etf.data import DATASETS, DownloadError, download
from ddn_etf.data.downloads import DOWNLOADS


def test_every_published_set_but_folders_of_images_can_be_fetched():
    needing_files = {name for name, source in DATASETS.items() if source.needs_files}
    assert needing_files == {*DOWNLOADS, "image-folder"}


def test_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="cannot download 'digits'; known: mnist"):
        download("digits", tmp_path)


def test_without_torchvision(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingDependencyError, match=r"cifar-10 needs .*'torchvision'.*vision"):
        download("cifar-10", tmp_path)


def test_a_torchvision_that_does_not_fit_the_torch(monkeypatch, tmp_path):
    real_import = builtins.__import__

    def broken(name, *arguments, **options):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(DownloadError, match=r"nms does not exist.*built for another torch"):
        download("mnist", tmp_path)


@pytest.mark.parametrize("name", DOWNLOADS)
def test_both_splits_are_asked_for_and_failures_name_the_folder(name, monkeypatch, tmp_path):
    asked = []

    class Recorder:
        def __getattr__(self, kind):
            return lambda root, **options: asked.append((kind, root, options))

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=Recorder()))
    download(name, tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    assert [options.pop("download") for *_, options in asked] == [True, True]
    assert {next(iter(options.values())) for *_, options in asked} in (
        {True, False},
        {"train", "test"},
    )
    assert len({kind for kind, *_ in asked}) == 1
    assert {root for _, root, _ in asked} == {str(tmp_path / "new" / "folder")}

    def offline(root, **options):
        raise OSError("no route to host")

    recorder = SimpleNamespace(**{asked[0][0]: offline})
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=recorder))
    with pytest.raises(DownloadError, match=f"{name} could not be fetched into .*no route"):
        download(name, tmp_path)
