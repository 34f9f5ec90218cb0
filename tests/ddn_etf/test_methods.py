from __future__ import annotations

import pytest
import torch

from ddn_etf.heads import FixedETFHead, LinearHead, NearestETFHead
from ddn_etf.methods import METHODS, find_method, find_methods


def test_names_and_heads():
    heads = {name: type(method.build(12, 10, 5.0)) for name, method in METHODS.items()}
    assert heads == {
        "linear": LinearHead,
        "fixed-etf": FixedETFHead,
        "nearest-etf": NearestETFHead,
    }
    assert all(name == method.name for name, method in METHODS.items())


def test_all_heads_see_the_same_normalised_features():
    features = torch.randn(7, 12)
    seen = [method.build(12, 10, 3.0).normalize(features) for method in METHODS.values()]
    for h in seen:
        torch.testing.assert_close(h, seen[0], rtol=0, atol=0)
        torch.testing.assert_close(h.norm(dim=1), torch.full((7,), 3.0))


def test_all_classifiers_have_unit_rows():
    for method in METHODS.values():
        torch.testing.assert_close(method.build(12, 10, 5.0).weight.norm(dim=1), torch.ones(10))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'etf'; known heads: linear, fixed-etf, nearest-etf"):
        find_method("etf")


def test_several_names_keep_their_order():
    assert [m.name for m in find_methods(["nearest-etf", "linear"])] == ["nearest-etf", "linear"]


def test_no_name():
    with pytest.raises(ValueError, match="no head given; known heads: linear"):
        find_methods([])


def test_a_name_given_twice():
    with pytest.raises(ValueError, match="'linear' is given 2 times"):
        find_methods(["linear", "fixed-etf", "linear"])
