from __future__ import annotations

import pytest
import torch

from ddn_etf.heads import (
    FixedETFHead,
    FixedFrameHead,
    HAFrameHead,
    LinearHead,
    NearestETFHead,
    NearestFrameHead,
    NearestHAFrameHead,
)
from ddn_etf.hierarchy import class_cosines, digit_shapes
from ddn_etf.methods import (
    DEFAULT_METHODS,
    METHODS,
    check_hierarchy,
    find_method,
    find_methods,
)

DIGITS = digit_shapes().distances


def test_names_and_heads():
    heads = {
        name: type(method.build(12, 10, 5.0, distances=DIGITS)) for name, method in METHODS.items()
    }
    assert heads == {
        "linear": LinearHead,
        "fixed-etf": FixedETFHead,
        "nearest-etf": NearestETFHead,
        "plain-linear": LinearHead,
        "nearest-etf-detached": NearestETFHead,
        "orthogonal": FixedFrameHead,
        "nearest-orthogonal": NearestFrameHead,
        "softmax-code": FixedFrameHead,
        "ha-frame": HAFrameHead,
        "nearest-ha-frame": NearestHAFrameHead,
    }
    assert all(name == method.name for name, method in METHODS.items())


def test_all_heads_see_the_same_normalised_features():
    features = torch.randn(7, 12)
    heads = [method.build(12, 10, 3.0, distances=DIGITS) for method in METHODS.values()]
    seen = [head.normalize(features) for head in heads]
    for h in seen:
        torch.testing.assert_close(h, seen[0], rtol=0, atol=0)
        torch.testing.assert_close(h.norm(dim=1), torch.full((7,), 3.0))


def test_all_classifiers_but_the_plain_one_have_unit_rows():
    for method in METHODS.values():
        if method.name == "plain-linear":
            continue
        weight = method.build(12, 10, 5.0, distances=DIGITS).weight
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(10))


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


@pytest.mark.parametrize("name", ["ha-frame", "nearest-ha-frame"])
def test_angles_follow_the_hierarchy(name):
    head = METHODS[name].build(12, 10, 5.0, distances=DIGITS)
    torch.testing.assert_close(head.weight @ head.weight.T, class_cosines(DIGITS).float())


def test_biases_are_those_of_the_heads_by_default():
    features, labels = torch.randn(20, 12), torch.arange(20) % 10
    bias = {}
    for name in ("ha-frame", "nearest-ha-frame"):
        head = METHODS[name].build(12, 10, 5.0, distances=DIGITS).train()
        bias[name] = head.outputs(features, labels).bias
    assert not bias["ha-frame"].any()
    assert bias["nearest-ha-frame"].all()


@pytest.mark.parametrize("name", ["ha-frame", "nearest-ha-frame"])
def test_without_a_hierarchy_the_data_sets_with_one_are_named(name):
    known = "digits, hierarchical-mixture, cifar-100"
    with pytest.raises(ValueError, match=rf"{name}.*give distances \(10, 10\).*\({known}\)"):
        METHODS[name].build(12, 10, 5.0)
    with pytest.raises(ValueError, match="between 10 classes, and there are 9"):
        METHODS[name].build(12, 9, 5.0, distances=DIGITS)
    with pytest.raises(ValueError, match=f"'mnist' has none; data sets with one: {known}"):
        check_hierarchy([METHODS["linear"], METHODS[name]], "mnist", has_hierarchy=False)
    check_hierarchy([METHODS[name]], "digits", has_hierarchy=True)
    check_hierarchy(DEFAULT_METHODS, "mnist", has_hierarchy=False)


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
