"""Sizes and heads that the tests of all heads share."""

from __future__ import annotations

from torch.testing import assert_close

from ddn_etf.class_means import CumulativeAverage
from ddn_etf.frames import orthogonal_frame, rotated_copy, softmax_code
from ddn_etf.heads import (
    FixedETFHead,
    FixedFrameHead,
    LinearHead,
    NearestETFHead,
    NearestFrameHead,
    WarmUpHead,
)

K, D, N = 4, 6, 24

HEADS = {
    "linear": lambda: LinearHead(D, K),
    "linear, unit rows": lambda: LinearHead(D, K, temperature=5.0, unit_rows=True),
    "fixed ETF": lambda: FixedETFHead(D, K),
    "nearest ETF": lambda: NearestETFHead(D, K),
    "nearest ETF, published": lambda: NearestETFHead(D, K, form="published"),
    "nearest ETF, cumulative": lambda: NearestETFHead(D, K, average=CumulativeAverage()),
    "nearest ETF, balanced": lambda: NearestETFHead(D, K, class_balanced=True),
    "fixed softmax code": lambda: FixedFrameHead(rotated_copy(softmax_code(K, 2), D)),
    "orthogonal frame that follows": lambda: NearestFrameHead(orthogonal_frame(K, D), D),
    "warm-up": lambda: WarmUpHead(LinearHead(D, K), NearestETFHead(D, K), steps=2),
}

NEAREST = [name for name in HEADS if name.startswith("nearest")]


def assert_same_state(module, other):
    expected = other.state_dict()
    assert module.state_dict().keys() == expected.keys()
    for name, value in module.state_dict().items():
        assert_close(value, expected[name], rtol=0, atol=0)


def with_value(features, value):
    features = features.clone()
    features[5, 2] = value
    return features
