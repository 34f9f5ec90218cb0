from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ddn_etf.batches import BatchSizeError
from ddn_etf.checkpoints import BACKUP_NAME, CHECKPOINT_NAME, ResumeError, read_checkpoint
from ddn_etf.data import SymmetricNoise, noisy
from ddn_etf.files import WriteError
from ddn_etf.heads import NearestETFHead
from ddn_etf.history import read_history
from ddn_etf.learning_rates import Cosine
from ddn_etf.methods import DEFAULT_METHODS, METHODS
from ddn_etf.models import small_convnet
from ddn_etf.optimizers import SGD, Adam
from ddn_etf.training import check_resume, load_classifier, train

LINEAR, NEAREST = METHODS["linear"], METHODS["nearest-etf"]


class InterruptedRunError(Exception):
    """Stands for whatever ends a process."""


def noisy_convnet(dim: int) -> nn.Module:
    """A backbone that draws random numbers in training."""
    return nn.Sequential(small_convnet(dim), nn.Dropout(0.2))


ONE = SGD(momentum=0.9, nesterov=True), Cosine(warm_up_epochs=1), "32"
CHOICES = pytest.mark.parametrize(
    ("method", "optimizer", "schedule", "precision"),
    [
        *((method, *ONE) for method in DEFAULT_METHODS),
        (NEAREST, Adam(), Cosine(), "bf16-mixed"),
    ],
    ids=[*(method.name for method in DEFAULT_METHODS), "adam-bf16"],
)


@CHOICES
def test_a_resumed_run_equals_an_uninterrupted_one(
    method, optimizer, schedule, precision, small_digits, quick, tmp_path
):
    rate = 0.003 if isinstance(optimizer, Adam) else 0.1
    settings = replace(
        quick,
        epochs=4,
        learning_rate=rate,
        optimizer=optimizer,
        schedule=schedule,
        precision=precision,
    )
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
    for mine, other in zip(resumed.snapshots, whole.snapshots, strict=True):
        assert mine.epoch == other.epoch
        assert torch.equal(mine.means, other.means)
        assert torch.equal(mine.weight, other.weight)


def test_a_classifier_is_loaded_as_it_was(small_digits, quick, tmp_path):
    trained = train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    loaded = load_classifier(tmp_path / CHECKPOINT_NAME, NEAREST, small_digits, quick)
    assert not loaded.training
    assert loaded.history == trained.history
    assert torch.equal(loaded(small_digits.test_inputs), trained(small_digits.test_inputs))
    before = load_classifier(tmp_path / BACKUP_NAME, NEAREST, small_digits, quick)
    assert before.history == trained.history[:1]
    with pytest.raises(ResumeError, match="head = 'nearest-etf', and head = 'linear'"):
        load_classifier(tmp_path / CHECKPOINT_NAME, METHODS["linear"], small_digits, quick)


def test_the_checkpoint_of_another_network_is_not_taken(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)

    def wider(dim: int) -> nn.Module:
        return small_convnet(dim, width=16)

    path, run = tmp_path / CHECKPOINT_NAME, (NEAREST, 0, small_digits, quick)
    message = r"a run with backbone = .*out_channels=32.*and backbone = .*out_channels=16"
    with pytest.raises(ResumeError, match=message):
        train(*run, backbone=wider, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(ResumeError, match=message):
        check_resume(path, *run, backbone=wider)
    message = r"belongs to another network: backbone\.\S+ has shape \("
    with pytest.raises(ResumeError, match=message):
        load_classifier(path, NEAREST, small_digits, quick, backbone=wider)


def test_names_do_not_make_a_run(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    noisy_set, _ = noisy(small_digits, SymmetricNoise(0.1))
    noisy_set = replace(noisy_set, name=small_digits.name)
    with pytest.raises(ResumeError, match="other train labels"):
        train(NEAREST, 0, noisy_set, quick, checkpoint_dir=tmp_path, resume=True)
    balanced = replace(
        NEAREST, make=lambda at: NearestETFHead(at.dim, at.num_classes, class_balanced=True)
    )
    with pytest.raises(ResumeError, match=r"class_balanced=False.*class_balanced=True"):
        train(balanced, 0, small_digits, quick, checkpoint_dir=tmp_path, resume=True)
    check_resume(tmp_path / CHECKPOINT_NAME, NEAREST, 0, small_digits, quick)


RESUMED_ELSEWHERE = """
import sys
from pathlib import Path
from torch.nn.functional import cross_entropy
from ddn_etf.data import digits
from ddn_etf.methods import METHODS
from ddn_etf.settings import TrainingSettings
from ddn_etf.training import train

def scaled(scale):
    return lambda output, labels: scale * cross_entropy(output.logits, labels)

settings = TrainingSettings(epochs=int(sys.argv[2]), batch_size=256, dim=16, loss=scaled(2.0))
place = Path(sys.argv[1])
resume = settings.epochs > 1
train(METHODS["nearest-etf"], 0, digits(), settings, checkpoint_dir=place, resume=resume)
"""


def test_a_loss_that_is_a_function_is_known_again_in_another_process(tmp_path):
    for epochs in (1, 2):
        command = [sys.executable, "-c", RESUMED_ELSEWHERE, str(tmp_path), str(epochs)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2], timeout=120)
    assert len(read_checkpoint(tmp_path / CHECKPOINT_NAME)["history"]) == 2


def test_a_run_is_not_replaced_unless_asked_for(small_digits, quick, tmp_path):
    arguments = (NEAREST, 0, small_digits, quick)
    train(*arguments, checkpoint_dir=tmp_path)
    before = (tmp_path / CHECKPOINT_NAME).read_bytes()
    with pytest.raises(FileExistsError, match=r"give resume=True to go on with it, overwrite=True"):
        train(*arguments, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="resume continues the run that overwrite would replace"):
        train(*arguments, checkpoint_dir=tmp_path, resume=True, overwrite=True)
    # What cannot be trained replaces nothing.
    with pytest.raises(BatchSizeError):
        train(
            *arguments[:3], replace(quick, batch_size=301), checkpoint_dir=tmp_path, overwrite=True
        )
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before

    def stop(record):
        raise InterruptedRunError

    # Of the run that is replaced nothing is left that could be resumed.
    with pytest.raises(InterruptedRunError):
        train(*arguments, checkpoint_dir=tmp_path, overwrite=True, on_epoch=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv"]


def test_a_full_disk_stops_the_run_and_keeps_the_epoch_before(
    small_digits, quick, tmp_path, monkeypatch
):
    settings = replace(quick, epochs=4)
    fsync, calls = os.fsync, []

    def full(descriptor):
        # The history and the checkpoint of two epochs, and the history of a third.
        calls.append(descriptor)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            WriteError, match=r"cannot write .*last\.ckpt \(No space left on device"
        ):
            train(NEAREST, 0, small_digits, settings, checkpoint_dir=tmp_path)
    assert len(read_checkpoint(tmp_path / CHECKPOINT_NAME)["history"]) == 2
    resumed = train(NEAREST, 0, small_digits, settings, checkpoint_dir=tmp_path, resume=True)
    assert resumed.history == train(NEAREST, 0, small_digits, settings).history


def test_a_cosine_run_cannot_be_made_longer(small_digits, quick, tmp_path):
    settings = replace(quick, schedule=Cosine())
    train(NEAREST, 0, small_digits, settings, checkpoint_dir=tmp_path)
    with pytest.raises(ResumeError, match="epochs = 2, and epochs = 3 is asked for"):
        train(
            NEAREST,
            0,
            small_digits,
            replace(settings, epochs=3),
            checkpoint_dir=tmp_path,
            resume=True,
        )


def test_a_finished_run_can_be_made_longer(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    longer = replace(quick, epochs=3)
    resumed = train(NEAREST, 0, small_digits, longer, checkpoint_dir=tmp_path, resume=True)
    assert resumed.history == train(NEAREST, 0, small_digits, longer).history


def test_resuming_a_finished_run_changes_nothing(small_digits, quick, tmp_path):
    run = train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    (tmp_path / "history.csv").unlink()
    again = train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path, resume=True)
    assert again.history == run.history
    assert read_history(tmp_path / "history.csv") == run.history


def test_a_checkpoint_may_be_moved(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    longer = replace(quick, epochs=3)
    resumed = train(NEAREST, 0, small_digits, longer, checkpoint_dir=tmp_path / "new", resume=True)
    assert len(resumed.history) == 3


def test_the_files_are_two_checkpoints_and_the_history(small_digits, quick, tmp_path):
    train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "history.csv",
        CHECKPOINT_NAME,
        BACKUP_NAME,
    ]


def test_resume_without_a_checkpoint(small_digits, quick, tmp_path):
    with pytest.raises(ResumeError, match=r"no checkpoint .*last\.ckpt to resume from"):
        train(NEAREST, 0, small_digits, quick, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(ResumeError, match="needs checkpoint_dir"):
        train(NEAREST, 0, small_digits, quick, resume=True)
