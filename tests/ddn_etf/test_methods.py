from __future__ import annotations

import pytest
import torch

from ddn_etf.heads import FixedETFHead, FixedFrameHead, LinearHead, NearestETFHead, NearestFrameHead
from ddn_etf.methods import DEFAULT_METHODS, METHODS, find_method, find_methods


def test_names_and_heads():
    heads = {name: type(method.build(12, 10, 5.0)) for name, method in METHODS.items()}
    assert heads == {
        "linear": LinearHead,
        "fixed-etf": FixedETFHead,
        "nearest-etf": NearestETFHead,
        "plain-linear": LinearHead,
        "nearest-etf-detached": NearestETFHead,
        "orthogonal": FixedFrameHead,
        "nearest-orthogonal": NearestFrameHead,
        "softmax-code": FixedFrameHead,
    }
    assert all(name == method.name for name, method in METHODS.items())


def test_all_heads_see_the_same_normalised_features():
    features = torch.randn(7, 12)
    seen = [method.build(12, 10, 3.0).normalize(features) for method in METHODS.values()]
    for h in seen:
        torch.testing.assert_close(h, seen[0], rtol=0, atol=0)
        torch.testing.assert_close(h.norm(dim=1), torch.full((7,), 3.0))


def test_all_classifiers_but_the_plain_one_have_unit_rows():
    for method in METHODS.values():
        if method.name == "plain-linear":
            continue
        torch.testing.assert_close(method.build(12, 10, 5.0).weight.norm(dim=1), torch.ones(10))


def test_frames_have_the_angles_that_they_are_named_after():
    def angles(name, num_classes, dim):
        weight = METHODS[name].build(dim, num_classes, 5.0).weight
        return weight @ weight.T

    torch.testing.assert_close(angles("orthogonal", 4, 6), torch.eye(4))
    torch.testing.assert_close(angles("nearest-orthogonal", 4, 6), torch.eye(4))
    torch.testing.assert_close(angles("softmax-code", 4, 6), (4 * torch.eye(4) - 1) / 3)
    polygon = angles("softmax-code", 5, 2)
    torch.testing.assert_close(polygon.sort().values[:, -2], torch.full((5,), 0.3090170))


def test_without_the_gradient_through_the_frame_only_h_has_one():
    features = torch.randn(20, 12, requires_grad=True)
    labels = torch.arange(20) % 10
    gradients = []
    for name in ("nearest-etf", "nearest-etf-detached"):
        output = METHODS[name].build(12, 10, 5.0).train().outputs(features, labels)
        gradients.append(output.weight.requires_grad)
    assert gradients == [True, False]


def test_the_default_is_the_published_comparison():
    assert [method.name for method in DEFAULT_METHODS] == ["linear", "fixed-etf", "nearest-etf"]


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
