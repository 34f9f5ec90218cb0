from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddn_etf.class_means import CumulativeAverage
from ddn_etf.commands.options import CompareOptions, TrainOptions
from ddn_etf.head_options import HeadOptions
from ddn_etf.learning_rates import Cosine
from ddn_etf.methods import DEFAULT_METHODS, METHODS
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
        batches="stratified",
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
        {"batches": "sorted"},
        {"average": "last"},
        {"imbalance_kind": "linear"},
        {"label_noise_kind": "random"},
        {"imbalance": 0.5},
        {"label_noise": 1.5},
        {"proximal_weight": -1.0},
        {"loss_options": "seven"},
    ],
)
def test_a_wrong_value_is_found_before_anything_is_done(options):
    [value] = options.values()
    with pytest.raises(ValueError, match=str(value)):
        TrainOptions(**options).check()


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"head": "nearest_etf"}, "nearest-etf"),
        ({"optimizer": "Adam"}, "adam"),
        ({"schedule": "cosin"}, "cosine"),
        ({"loss": "crossentropy"}, "cross-entropy"),
        ({"dataset": "cifar10"}, "cifar-10"),
        ({"model": "resnet-18"}, "resnet18"),
    ],
)
def test_the_name_that_was_meant(options, meant):
    with pytest.raises(ValueError, match=rf"\(did you mean '{meant}'\?\)"):
        TrainOptions(**options).check()


def test_options_of_heads():
    options = {
        "average": "cumulative",
        "proximal_weight": 0.5,
        "class_balanced": True,
        "warm_up": 2,
    }
    expected = HeadOptions(CumulativeAverage(), 0.5, True, 2)
    [method] = TrainOptions(**options).methods()
    assert method == replace(METHODS["nearest-etf"], options=expected)
    assert TrainOptions(**options).notes() == []
    head = method.build(12, 10, 5.0, steps_per_epoch=7)
    assert head.steps == 14
    assert head.nearest.class_means.class_balanced
    linear, fixed, nearest = CompareOptions(**options).methods()
    assert (linear, fixed) == DEFAULT_METHODS[:2]
    assert nearest.options == expected
    [note] = CompareOptions(**options).notes()
    assert note.startswith(
        "--average, --proximal-weight, --class-balanced, --warm-up: only for heads"
    )
    assert note.endswith("not for linear, fixed-etf")


def test_options_that_no_head_has():
    for options in (
        TrainOptions(head="linear", class_balanced=True),
        CompareOptions(heads="linear,fixed-etf", class_balanced=True),
    ):
        with pytest.raises(
            ValueError, match=r"head 'linear' has no --class-balanced: only .*nearest-"
        ):
            options.check()
    with pytest.raises(ValueError, match="--warm-up 3 leaves no epoch of --epochs 3"):
        TrainOptions(warm_up=3, epochs=3).check()


@pytest.mark.parametrize(("name", "kind"), [("imbalance", "step"), ("label_noise", "asymmetric")])
def test_a_kind_of_nothing(name, kind):
    flag = "--" + name.replace("_", "-")
    options = TrainOptions(**{f"{name}_kind": kind})
    with pytest.raises(ValueError, match=f"{flag}-kind {kind} says how .* without {flag} none"):
        options.check()
    replace(options, **{name: 1.0 if name == "imbalance" else 0.1}).check()


def test_no_label_noise():
    none = TrainOptions(label_noise=0.0, label_noise_kind="asymmetric")
    none.check()
    assert none.variant() == TrainOptions().variant()


def test_the_train_split_is_changed_and_the_test_split_is_not():
    whole = TrainOptions().load_data()
    for kind, other_kind, options in (
        ("exponential", "symmetric", {}),
        ("step", "asymmetric", {"imbalance_kind": "step", "label_noise_kind": "asymmetric"}),
    ):
        chosen = TrainOptions(imbalance=10.0, label_noise=0.2, batch_size=64, **options)
        dataset = chosen.load_data()
        assert dataset.name == chosen.variant().name("digits")
        assert f"imbalance 10 ({kind}" in dataset.name
        assert f"label noise 0.2 ({other_kind})" in dataset.name
        assert torch.equal(dataset.test_labels, whole.test_labels)
        clean = TrainOptions(imbalance=10.0, batch_size=64, **options).load_data()
        assert max(clean.train_counts) // 10 == min(clean.train_counts)
        assert torch.equal(clean.train_inputs, dataset.train_inputs)
        wrong = (clean.train_labels != dataset.train_labels).double().mean()
        assert 0.1 < wrong < 0.3
    assert TrainOptions().variant().name("digits") == "digits" == whole.name


def test_a_seed_that_no_generator_takes():
    with pytest.raises(ValueError, match=r"seed must lie in .* found 1125899906842624"):
        TrainOptions(seed=2**50).check()


def test_a_folder_that_is_not_looked_at():
    assert TrainOptions().notes() == []
    assert TrainOptions(dataset="mnist", data_folder=Path("x")).notes() == []
    [note] = TrainOptions(data_folder=Path("x")).notes()
    assert "'digits' needs no files" in note


@pytest.mark.parametrize("head", ["ha-frame", "nearest-ha-frame"])
def test_a_head_that_needs_a_hierarchy(head):
    options = TrainOptions(head=head, dim=12, loss="hierarchy-aware")
    options.check()
    assert options.load_data().hierarchy.num_classes == 10
    with pytest.raises(ValueError, match="'fashion-mnist' has none; data sets with one: digits, "):
        TrainOptions(head=head, dataset="fashion-mnist").check()


def test_a_loss_that_needs_a_hierarchy():
    TrainOptions(loss="hierarchy-aware").check()
    for dataset in ("gaussian-mixture", "mnist"):
        with pytest.raises(
            ValueError, match=f"loss 'hierarchy-aware' follows .*'{dataset}' has none; .*: digits, "
        ):
            TrainOptions(loss="hierarchy-aware", dataset=dataset, model="mlp").check()


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
