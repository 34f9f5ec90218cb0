from __future__ import annotations

import pytest

from ddn_etf._names import find_named
from ddn_etf.methods import find_method
from ddn_etf.optimizers import find_optimizer

KNOWN = {"cross-entropy": 1, "focal": 2}


def test_a_known_name():
    assert find_named("loss", "focal", KNOWN) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cross_entropy",
            r"^unknown loss 'cross_entropy' \(did you mean 'cross-entropy'\?\); known: ",
        ),
        ("fokal", r"\(did you mean 'focal'\?\); known: cross-entropy, focal$"),
        ("hinge", "^unknown loss 'hinge'; known: cross-entropy, focal$"),
        ("", "^unknown loss ''; known: "),
    ],
)
def test_the_nearest_name_is_told(name, message):
    with pytest.raises(ValueError, match=message):
        find_named("loss", name, KNOWN)


@pytest.mark.parametrize("name", [None, 3, ["focal"]])
def test_what_is_no_name(name):
    with pytest.raises(TypeError, match="a loss is looked up by its name, found "):
        find_named("loss", name, KNOWN)


def test_registries():
    with pytest.raises(
        ValueError, match=r"head 'nearest_etf' \(did you mean 'nearest-etf'\?\); known"
    ):
        find_method("nearest_etf")
    with pytest.raises(
        ValueError, match=r"optimizer 'adamW' \(did you mean 'adamw'\?\); known opt"
    ):
        find_optimizer("adamW")
