from __future__ import annotations

import importlib
import sys

import pytest

from ddn.errors import MissingDependencyError
from ddn_etf._extras import optional_import
from ddn_etf.data import digits


@pytest.mark.parametrize(
    ("module", "needed", "package"),
    [
        ("ddn_etf.classifier", "lightning", "lightning"),
        ("ddn_etf.figures.training_curves", "matplotlib.axes", "matplotlib"),
        ("ddn_etf.report", "jinja2", "jinja2"),
    ],
)
def test_a_module_whose_package_is_missing_names_the_extra(module, needed, package, monkeypatch):
    monkeypatch.setitem(sys.modules, needed, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(MissingDependencyError, match=f"needs the package '{package}'") as caught:
        importlib.import_module(module)
    assert 'pip install "ddn-torch[train]"' in str(caught.value)


def test_the_digits_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match="digits needs the package 'sklearn'"):
        digits()


def test_a_damaged_installation_is_not_a_missing_extra():
    with (
        pytest.raises(ModuleNotFoundError, match=r"ddn_etf\.absent") as caught,
        optional_import("train", "Nothing"),
    ):
        importlib.import_module("ddn_etf.absent")
    assert not isinstance(caught.value, MissingDependencyError)
