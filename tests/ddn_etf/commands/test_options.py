from __future__ import annotations

import pytest
import torch

from ddn_etf.commands.options import CompareOptions, TrainOptions
from ddn_etf.learning_rates import Cosine
from ddn_etf.methods import DEFAULT_METHODS
from ddn_etf.optimizers import AdamW
from ddn_etf.settings import TrainingSettings


def test_the_defaults_are_those_of_the_settings():
    for options in (TrainOptions(), CompareOptions()):
        assert options.settings().as_table() == TrainingSettings().as_table()
    assert CompareOptions().methods() == DEFAULT_METHODS
    assert CompareOptions().seed_numbers() == (0, 1, 2)
    assert TrainOptions().methods() == DEFAULT_METHODS[2:]


def test_every_setting_has_an_option():
    options = TrainOptions(
        optimizer="adamw",
        momentum=0.8,
        schedule="cosine",
        loss="focal",
        epochs=7,
        batch_size=60,
        learning_rate=0.01,
        weight_decay=0.1,
        temperature=2.0,
        dim=9,
        precision="bf16-mixed",
        devices=2,
        strategy="ddp",
        threads=3,
    )
    changed = {
        name
        for name, value in options.settings().as_table().items()
        if value != TrainingSettings().as_table()[name]
    }
    assert changed == set(TrainingSettings().as_table()) - {"accelerator"}
    assert options.settings().optimizer == AdamW(0.8)
    assert options.settings().schedule == Cosine()


@pytest.mark.parametrize(
    "options",
    [
        {"head": "etf"},
        {"optimizer": "lion"},
        {"schedule": "step"},
        {"loss": "hinge"},
        {"dataset": "letters"},
        {"model": "brain"},
        {"precision": "16-mixed"},
        {"momentum": 1.0},
    ],
)
def test_a_wrong_value_is_found_before_anything_is_done(options):
    [value] = options.values()
    with pytest.raises(ValueError, match=str(value)):
        TrainOptions(**options).check()


@pytest.mark.parametrize("head", ["ha-frame", "nearest-ha-frame"])
def test_a_head_that_needs_a_hierarchy(head):
    options = TrainOptions(head=head, dim=12, loss="hierarchy-aware")
    options.check()
    assert options.load_data().hierarchy.num_classes == 10
    with pytest.raises(ValueError, match="'fashion-mnist' has none; data sets with one: digits, "):
        TrainOptions(head=head, dataset="fashion-mnist").check()


def test_the_backbone_fits_the_data():
    options = TrainOptions(model="mlp", dim=12)
    dataset = options.load_data()
    state = torch.get_rng_state()
    features = options.backbone(dataset)(12)(dataset.test_inputs[:3])
    assert features.shape == (3, 12)
    assert not torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="an input has shape"):
        TrainOptions(dataset="gaussian-mixture", model="small-convnet").load_data()


def test_loading_data_leaves_the_random_numbers_alone():
    state = torch.get_rng_state()
    TrainOptions().load_data()
    assert torch.equal(torch.get_rng_state(), state)
