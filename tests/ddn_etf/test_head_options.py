from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddn_etf.checkpoints import CHECKPOINT_NAME, ResumeError
from ddn_etf.class_means import CumulativeAverage
from ddn_etf.head_options import AVERAGES, HeadOptions
from ddn_etf.heads import NearestETFHead, WarmUpHead
from ddn_etf.hierarchy import digit_shapes
from ddn_etf.methods import METHODS
from ddn_etf.training import load_classifier, train

CHANGED = HeadOptions(AVERAGES["cumulative"], 0.25, class_balanced=True)
FOLLOWING = [name for name, method in METHODS.items() if method.follows_means]


class InterruptedRunError(Exception):
    pass


@pytest.mark.parametrize("name", FOLLOWING)
def test_every_head_that_follows_takes_them(name):
    method = METHODS[name].with_options(CHANGED)
    head = method.build(12, 10, 5.0, distances=digit_shapes().distances)
    assert head.proximal_weight == 0.25
    assert head.temperature == 5.0
    assert head.class_means.class_balanced
    assert head.class_means.average == CumulativeAverage()
    assert head.gradient_through_frame == (name != "nearest-etf-detached")


@pytest.mark.parametrize("name", [name for name in METHODS if name not in FOLLOWING])
def test_other_heads_say_so(name):
    assert METHODS[name].with_options(HeadOptions()) == METHODS[name]
    with pytest.raises(ValueError, match=f"head '{name}' has no warm_up_epochs: only heads that"):
        METHODS[name].with_options(HeadOptions(warm_up_epochs=1))


def test_the_defaults_are_those_of_the_head():
    given = METHODS["nearest-etf"].build(12, 10, 5.0)
    plain = NearestETFHead(12, 10)
    assert given.class_means.average == plain.class_means.average
    assert given.class_means.class_balanced == plain.class_means.class_balanced
    assert given.proximal_weight == plain.proximal_weight


def test_what_is_changed():
    assert HeadOptions().changed() == []
    assert CHANGED.changed() == ["average", "proximal_weight", "class_balanced"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"average": "cumulative"}, TypeError, "average must be an object .* found 'cumulative'"),
        ({"average": CumulativeAverage}, TypeError, "average must be an object .* found <class"),
        ({"proximal_weight": True}, TypeError, "proximal_weight must be a number, found True"),
        (
            {"proximal_weight": 0.0},
            ValueError,
            "proximal_weight must be a positive number, found 0",
        ),
        ({"class_balanced": 1}, TypeError, "class_balanced must be True or False, found 1"),
        ({"warm_up_epochs": 1.5}, TypeError, "warm_up_epochs must be an integer, found 1.5"),
        ({"warm_up_epochs": -1}, ValueError, "warm_up_epochs must be at least 0, found -1"),
    ],
)
def test_wrong_options(options, kind, message):
    with pytest.raises(kind, match=message):
        HeadOptions(**options)


def test_a_warm_up_needs_to_know_how_long_an_epoch_is():
    method = METHODS["nearest-etf"].with_options(HeadOptions(warm_up_epochs=3))
    with pytest.raises(ValueError, match="a warm-up of 3 epochs: give steps_per_epoch"):
        method.build(12, 10, 5.0)
    head = method.build(12, 10, 5.0, steps_per_epoch=4)
    assert isinstance(head, WarmUpHead)
    assert head.steps == 12
    assert head.learned.temperature == head.nearest.temperature == 5.0


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_run_with_a_warm_up_switches_and_resumes_exactly(
    stop_after, small_digits, quick, tmp_path
):
    method = METHODS["nearest-etf"].with_options(replace(CHANGED, warm_up_epochs=2))
    settings = replace(quick, epochs=4)
    whole = train(method, 0, small_digits, settings)
    learned = train(METHODS["linear"], 0, small_digits, settings)
    # Before the switch it is the learned head, after it a simplex ETF.
    assert whole.history[1].values == learned.history[1].values
    assert [record.values["train_NC2"] < 1e-5 for record in whole.history] == [0, 0, 1, 1]

    def interrupt(record):
        # The checkpoint of this epoch is not written any more.
        if record.epoch == stop_after + 1:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        train(method, 0, small_digits, settings, checkpoint_dir=tmp_path, on_epoch=interrupt)
    with pytest.raises(ResumeError, match="head options"):
        train(
            METHODS["nearest-etf"], 0, small_digits, settings, checkpoint_dir=tmp_path, resume=True
        )
    resumed = train(method, 0, small_digits, settings, checkpoint_dir=tmp_path, resume=True)
    assert resumed.history == whole.history
    state, expected = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    loaded = load_classifier(tmp_path / CHECKPOINT_NAME, method, small_digits, settings)
    assert torch.equal(loaded(small_digits.test_inputs), whole(small_digits.test_inputs))
