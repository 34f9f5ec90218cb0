from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ddn_etf.batches import BatchSizeError
from ddn_etf.checkpoints import CHECKPOINT_NAME, ResumeError
from ddn_etf.methods import METHODS
from ddn_etf.metrics import neural_collapse
from ddn_etf.models import small_convnet
from ddn_etf.training import TrainingError, measure, train

HEADS = pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
NEAREST = METHODS["nearest-etf"]


class InterruptedRunError(Exception):
    """Stands for whatever ends a process."""


def noisy_convnet(dim: int) -> nn.Module:
    """A backbone that draws random numbers in training."""
    return nn.Sequential(small_convnet(dim), nn.Dropout(0.2))


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

    for method in METHODS.values():
        train(method, 3, small_digits, quick, backbone=recorded_backbone)
    assert all(len(seen) == 10 for seen in batches)
    for other in (1, 2):
        assert all(map(torch.equal, weights[0], weights[other]))
        assert all(map(torch.equal, batches[0], batches[other]))


def test_a_long_run_begins_like_a_short_one(small_digits, quick):
    short = train(NEAREST, 0, small_digits, quick).history
    assert train(NEAREST, 0, small_digits, replace(quick, epochs=3)).history[:2] == short


@HEADS
def test_a_resumed_run_equals_an_uninterrupted_one(method, small_digits, quick, tmp_path):
    settings = replace(quick, epochs=4)
    whole = train(method, 0, small_digits, settings, backbone=noisy_convnet)

    def interrupt(record):
        if record.epoch == 3:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        train(
            method,
            0,
            small_digits,
            settings,
            backbone=noisy_convnet,
            checkpoint_dir=tmp_path,
            on_epoch=interrupt,
        )
    torch.manual_seed(99)
    epochs = []
    resumed = train(
        method,
        0,
        small_digits,
        settings,
        backbone=noisy_convnet,
        checkpoint_dir=tmp_path,
        resume=True,
        on_epoch=lambda record: epochs.append(record.epoch),
    )
    assert epochs == [3, 4]
    assert resumed.history == whole.history
    state, expected = resumed.state_dict(), whole.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_finished_run_can_be_made_longer(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    longer = replace(quick, epochs=3)
    resumed = train(NEAREST, 0, small_digits, longer, checkpoint_dir=tmp_path, resume=True)
    assert resumed.history == train(NEAREST, 0, small_digits, longer).history


def test_resuming_a_finished_run_changes_nothing(small_digits, quick, tmp_path):
    run = train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    again = train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path, resume=True)
    assert again.history == run.history


def test_a_checkpoint_may_be_moved(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    longer = replace(quick, epochs=3)
    resumed = train(NEAREST, 0, small_digits, longer, checkpoint_dir=tmp_path / "new", resume=True)
    assert len(resumed.history) == 3


def test_the_only_file_is_the_last_checkpoint(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_NAME]


def test_resume_without_a_checkpoint(small_digits, quick, tmp_path):
    with pytest.raises(ResumeError, match=r"no checkpoint .*last\.ckpt to resume from"):
        train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(ResumeError, match="needs checkpoint_dir"):
        train(NEAREST, 0, small_digits, quick, resume=True)


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
    with pytest.raises(TrainingError, match="accelerator 'gpu' cannot be used on this machine"):
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
