from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddn.errors import MissingDependencyError
from ddn_etf.batches import BatchSizeError
from ddn_etf.data import Dataset
from ddn_etf.heads import NearestETFHead
from ddn_etf.hierarchy import balanced_hierarchy, class_cosines
from ddn_etf.history import read_history
from ddn_etf.learning_rates import Cosine
from ddn_etf.losses import find_loss
from ddn_etf.methods import DEFAULT_METHODS, METHODS
from ddn_etf.metrics import SplitStatistics, neural_collapse
from ddn_etf.models import small_convnet
from ddn_etf.schedules import LinearSchedule
from ddn_etf.settings import TrainingSettings
from ddn_etf.training import TrainingError, measure, train

HEADS = pytest.mark.parametrize("method", DEFAULT_METHODS, ids=lambda method: method.name)
NEAREST = METHODS["nearest-etf"]


@HEADS
def test_training_lowers_the_loss(method, small_digits, quick):
    history = train(method, 0, small_digits, replace(quick, epochs=4)).history
    losses = [record.values["train_loss"] for record in history]
    assert losses[-1] < 0.6 * losses[0]
    assert history[-1].values["train_accuracy"] > 90


@HEADS
def test_same_seed_same_numbers_other_seed_others(method, small_digits, quick):
    first = train(method, 0, small_digits, quick).history
    torch.rand(17)  # what the caller does with random numbers changes nothing
    assert train(method, 0, small_digits, quick).history == first
    other = train(method, 1, small_digits, quick).history
    assert other[-1].values["train_loss"] != first[-1].values["train_loss"]


def test_the_history_has_one_record_per_epoch(small_digits, quick):
    history = train(NEAREST, 5, small_digits, quick).history
    assert [(r.head, r.seed, r.epoch) for r in history] == [
        ("nearest-etf", 5, 1),
        ("nearest-etf", 5, 2),
    ]


def test_the_last_record_describes_the_classifier_that_is_returned(small_digits, quick):
    classifier = train(NEAREST, 0, small_digits, quick)
    splits = {
        "train": (small_digits.train_inputs, small_digits.train_labels),
        "test": (small_digits.test_inputs, small_digits.test_labels),
    }
    for split, (inputs, labels) in splits.items():
        with torch.no_grad():
            logits = classifier(inputs)
            h = classifier.head.normalize(classifier.backbone(inputs))
        expected = {
            name: value.item()
            for name, value in neural_collapse(
                h, labels, classifier.head.weight, classifier.head.bias
            ).items()
            if value.ndim == 0
        }
        expected["loss"] = nn.functional.cross_entropy(logits, labels).item()
        assert expected["accuracy"] == pytest.approx(
            100 * (logits.argmax(1) == labels).double().mean().item()
        )
        for name, value in expected.items():
            # Batches of another size round differently in float32.
            assert classifier.history[-1].values[f"{split}_{name}"] == pytest.approx(
                value, rel=1e-3, abs=1e-5
            ), name


def test_every_head_starts_from_the_same_backbone_and_sees_the_same_batches(small_digits, quick):
    weights, batches = [], []

    def recorded_backbone(dim: int) -> nn.Module:
        network = small_convnet(dim)
        weights.append([parameter.detach().clone() for parameter in network.parameters()])
        seen: list[torch.Tensor] = []
        batches.append(seen)

        def record(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if module.training:
                seen.append(inputs[0].clone())

        network.register_forward_pre_hook(record)
        return network

    for method in DEFAULT_METHODS:
        train(method, 3, small_digits, quick, backbone=recorded_backbone)
    assert all(len(seen) == 10 for seen in batches)
    for other in (1, 2):
        assert all(map(torch.equal, weights[0], weights[other]))
        assert all(map(torch.equal, batches[0], batches[other]))


def test_a_long_run_begins_like_a_short_one(small_digits, quick):
    short = train(NEAREST, 0, small_digits, quick).history
    assert train(NEAREST, 0, small_digits, replace(quick, epochs=3)).history[:2] == short


def test_the_learning_rate_follows_the_schedule(small_digits, quick, monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def recorded_step(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", recorded_step)
    train(NEAREST, 0, small_digits, replace(quick, epochs=3, schedule=Cosine()))
    assert rates == pytest.approx([0.1] * 5 + [0.075] * 5 + [0.025] * 5)


def test_the_loss_of_the_settings_is_trained_and_measured(small_digits, quick):
    loss = find_loss("mean-squared-error")
    classifier = train(NEAREST, 0, small_digits, replace(quick, loss=loss, epochs=3))
    with torch.no_grad():
        features = classifier.backbone(small_digits.test_inputs)
        expected = loss(classifier.head.outputs(features), small_digits.test_labels)
    measured = [record.values["test_loss"] for record in classifier.history]
    assert measured[-1] == pytest.approx(expected.item(), rel=1e-5)
    assert measured[-1] < measured[0]


def test_half_precision_is_near_full_precision_and_not_the_same(small_digits, quick):
    full = train(NEAREST, 0, small_digits, quick).history[-1].values
    half = (
        train(NEAREST, 0, small_digits, replace(quick, precision="bf16-mixed")).history[-1].values
    )
    assert half["train_loss"] != full["train_loss"]
    assert half["train_loss"] == pytest.approx(full["train_loss"], rel=0.3)


def test_snapshots_are_the_centred_class_means_and_the_weight(small_digits, quick):
    classifier = train(NEAREST, 0, small_digits, quick)
    assert [snapshot.epoch for snapshot in classifier.snapshots] == [1, 2]
    with torch.no_grad():
        h = classifier.head.normalize(classifier.backbone(small_digits.train_inputs))
    expected = SplitStatistics.from_features(h, small_digits.train_labels, 10).deviations.mT
    last = classifier.snapshots[-1]
    torch.testing.assert_close(last.means.double(), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(last.weight, classifier.head.weight)


def test_history_is_written_while_the_run_goes_on(small_digits, quick, tmp_path):
    lengths = []

    def look(record):
        lengths.append(len(read_history(tmp_path / "history.csv")))

    classifier = train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path, on_epoch=look)
    assert lengths == [1, 2]
    assert read_history(tmp_path / "history.csv") == classifier.history


def test_tensorboard_is_named_where_it_is_missing(small_digits, quick, tmp_path, monkeypatch):
    with pytest.raises(TrainingError, match="need a folder"):
        train(NEAREST, 0, small_digits, quick, tensorboard=True)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        MissingDependencyError, match="A log for TensorBoard needs the package 'ten"
    ):
        train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path, tensorboard=True)


def test_tensorboard_gets_the_history(small_digits, quick, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    classifier = train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = events.Scalars("test_NC1")
    assert [event.step for event in logged] == [1, 2]
    assert [event.value for event in logged] == pytest.approx(
        [record.values["test_NC1"] for record in classifier.history]
    )


def test_a_batch_larger_than_the_training_split(small_digits, quick):
    with pytest.raises(BatchSizeError, match="batch_size = 301"):
        train(NEAREST, 0, small_digits, replace(quick, batch_size=301))


@HEADS
def test_a_loss_that_is_not_finite_stops_the_run(method, small_digits, quick):
    def broken_backbone(dim: int) -> nn.Module:
        network = small_convnet(dim)
        with torch.no_grad():
            network[-1].bias.fill_(torch.nan)
        return network

    with pytest.raises((TrainingError, ValueError), match=r"learning rate") as caught:
        train(method, 0, small_digits, quick, backbone=broken_backbone)
    assert "nan" in str(caught.value).lower()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_an_accelerator_that_is_not_there(small_digits, quick):
    with pytest.raises(TrainingError, match=r"'gpu' with 1 device\(s\) cannot be used"):
        train(NEAREST, 0, small_digits, replace(quick, accelerator="gpu"))


@pytest.mark.gpu
@HEADS
def test_on_a_gpu_too_the_same_seed_gives_the_same_numbers(method, small_digits, quick):
    settings = replace(quick, accelerator="gpu")
    first = train(method, 0, small_digits, settings).history
    assert train(method, 0, small_digits, settings).history == first


def test_the_surroundings_are_left_as_they_were(small_digits, quick):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        train(NEAREST, 0, small_digits, replace(quick, threads=1))
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.equal(torch.rand(3), expected)
    finally:
        torch.set_num_threads(threads)


def test_nothing_is_printed(small_digits, quick, capfd):
    train(NEAREST, 0, small_digits, quick)
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err == ""


def test_measure_takes_the_features_that_the_weight_is_multiplied_with(small_digits):
    head = METHODS["linear"].build(4, 3, 5.0).eval()
    features, labels = torch.randn(30, 4), torch.arange(30) % 3
    values, scaled = measure(head, features, labels), measure(head, 7 * features, labels)
    assert values.keys() >= {"loss", "accuracy", "NC1", "NC2", "NC3", "NC4"}
    for name, value in values.items():
        assert scaled[name] == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_without_distances_mistakes_are_not_measured():
    head = METHODS["linear"].build(4, 3, 5.0).eval()
    features, labels = torch.randn(30, 4), torch.arange(30) % 3
    plain = measure(head, features, labels)
    distances = torch.ones(3, 3) - torch.eye(3)
    # Of three classes there is no top five.
    assert measure(head, features, labels, distances=distances).keys() - plain.keys() == {
        "mistake_severity",
        "hd@1",
    }


def test_no_mistake_has_no_severity(tmp_path):
    points = 5 * torch.eye(6).repeat(20, 1)
    labels = torch.arange(120) % 6
    tree = balanced_hierarchy((2, 3))
    dataset = Dataset("corners", 6, points, labels, points[:6], labels[:6], hierarchy=tree)
    settings = TrainingSettings(epochs=3, batch_size=20, dim=8, loss=find_loss("hierarchy-aware"))
    arguments = (METHODS["nearest-ha-frame"], 0, dataset)
    keep = {"backbone": lambda dim: nn.Linear(6, dim), "checkpoint_dir": tmp_path}
    whole = train(*arguments, settings, **keep).history
    last = whole[-1].values
    assert last["test_accuracy"] == 100
    assert math.isnan(last["test_mistake_severity"])
    assert last["test_hd@1"] == 0
    assert read_history(tmp_path / "history.csv") == whole
    train(*arguments, replace(settings, epochs=2), **keep, overwrite=True)
    assert train(*arguments, settings, **keep, resume=True).history == whole


@pytest.mark.parametrize("name", ["ha-frame", "nearest-ha-frame"])
@pytest.mark.parametrize("loss", ["cross-entropy", "hierarchy-aware"])
def test_heads_of_a_hierarchy_learn(name, loss, small_digits, quick):
    settings = replace(quick, epochs=4, loss=find_loss(loss))
    classifier = train(METHODS[name], 0, small_digits, settings)
    assert classifier.history[-1].values["train_accuracy"] > 90
    assert "test_hp@5" in classifier.history[-1].values
    weight = classifier.head.weight
    expected = class_cosines(small_digits.hierarchy.distances).float()
    torch.testing.assert_close(weight @ weight.T, expected, atol=1e-5, rtol=0)


def test_a_head_of_a_hierarchy_without_one(small_digits, quick, tmp_path):
    with pytest.raises(ValueError, match="'digits' has none; data sets with one: digits, "):
        train(
            METHODS["ha-frame"],
            0,
            replace(small_digits, hierarchy=None),
            quick,
            checkpoint_dir=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_a_schedule_of_the_head_takes_a_step_in_every_epoch(small_digits, quick):
    def scheduled(at):
        return NearestETFHead(at.dim, at.num_classes, temperature=LinearSchedule(1.0, 5.0, 2))

    method = replace(NEAREST, make=scheduled)
    classifier = train(method, 0, small_digits, replace(quick, epochs=2))
    assert classifier.head.temperature == 5.0
