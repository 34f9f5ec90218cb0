from __future__ import annotations

import pytest

from ddn_etf.commands.effective import HEAD_OPTIONS, has_head_options, in_effect, in_vain
from ddn_etf.commands.options import CompareOptions, TrainOptions

CHOSEN = {"average": "cumulative", "proximal_weight": 0.5, "class_balanced": True, "warm_up": 2}


def test_options_of_heads_that_have_none():
    assert tuple(CHOSEN) == HEAD_OPTIONS
    assert in_vain(TrainOptions(head="linear", **CHOSEN)) == CHOSEN
    assert in_effect(TrainOptions(head="linear", epochs=5, **CHOSEN)) == TrainOptions(
        head="linear", epochs=5
    )
    assert in_effect(CompareOptions(heads="linear, fixed-etf", **CHOSEN)) == CompareOptions(
        heads="linear, fixed-etf"
    )
    for options in (TrainOptions(**CHOSEN), CompareOptions(heads="linear,nearest-etf", **CHOSEN)):
        assert has_head_options(options)
        assert in_vain(options) == {}
        assert in_effect(options) == options


def test_kinds_of_nothing():
    kinds = {"imbalance_kind": "step", "label_noise_kind": "asymmetric"}
    assert in_vain(TrainOptions(**kinds)) == kinds
    options = TrainOptions(imbalance=10.0, label_noise=0.1, **kinds)
    assert in_effect(options) == options


def test_an_unknown_head():
    with pytest.raises(ValueError, match="unknown head 'later'"):
        in_effect(TrainOptions(head="later"))
