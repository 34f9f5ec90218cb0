from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace

import pytest
import torch

from ddn_etf.checkpoints import (
    BACKUP_NAME,
    ResumeError,
    check_checkpoint,
    read_checkpoint,
    run_identity,
    write_checkpoint,
)
from ddn_etf.files import WriteError
from ddn_etf.learning_rates import Cosine
from ddn_etf.losses import find_loss
from ddn_etf.optimizers import Adam
from ddn_etf.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=3)
RUN = run_identity("linear", 0, SETTINGS)


def content(epochs: int) -> dict[str, object]:
    return {"run": RUN, "history": [{}] * epochs, "state_dict": {"w": torch.arange(500.0)}}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, content(2))
    return path


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(400.0, 410.0).numpy().tobytes())] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def empty(path):
    path.write_bytes(b"")


DAMAGE = pytest.mark.parametrize("damage", [flip_a_byte, truncate, empty])


def test_the_same_run_may_go_on(checkpoint):
    check_checkpoint(checkpoint, RUN)
    check_checkpoint(checkpoint, {**RUN, "epochs": 50})
    found = check_checkpoint(checkpoint, {**RUN, "epochs": 2})
    assert torch.equal(found["state_dict"]["w"], torch.arange(500.0))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run_identity("fixed-etf", 0, SETTINGS), "head = 'linear', and head = 'fixed-etf'"),
        (run_identity("linear", 1, SETTINGS), "seed = 0, and seed = 1 is asked for"),
        (run_identity("linear", 0, SETTINGS, "mnist"), "dataset = 'digits', and dataset = 'mnist'"),
        (
            run_identity("linear", 0, replace(SETTINGS, learning_rate=0.5)),
            r"learning_rate = 0\.1, and learning_rate = 0\.5",
        ),
        (
            run_identity("linear", 0, replace(SETTINGS, optimizer=Adam())),
            r"optimizer = 'SGD\(momentum=0\.9, nesterov=False\)', and optimizer = 'Adam",
        ),
        (
            run_identity("linear", 0, replace(SETTINGS, schedule=Cosine())),
            r"schedule = 'Constant\(\)', and schedule = 'Cosine",
        ),
        (
            run_identity("linear", 0, replace(SETTINGS, loss=find_loss("focal"))),
            r"loss = 'CrossEntropy\(.*', and loss = 'Focal",
        ),
        ({**RUN, "epochs": 1}, "already has 2 epochs, and 1 are asked for"),
    ],
)
def test_another_run_may_not(checkpoint, other, message):
    with pytest.raises(ResumeError, match=message):
        check_checkpoint(checkpoint, other)


def test_a_run_whose_rates_depend_on_its_length_cannot_be_made_longer(checkpoint):
    check_checkpoint(checkpoint, RUN, may_be_longer=False)
    with pytest.raises(ResumeError, match="epochs = 3, and epochs = 50 is asked for"):
        check_checkpoint(checkpoint, {**RUN, "epochs": 50}, may_be_longer=False)


def test_no_file(tmp_path):
    with pytest.raises(ResumeError, match="there is no checkpoint"):
        check_checkpoint(tmp_path / "last.ckpt", RUN)


def test_the_checkpoint_before_is_kept(checkpoint):
    write_checkpoint(checkpoint, content(3))
    assert len(read_checkpoint(checkpoint)["history"]) == 3
    assert len(read_checkpoint(checkpoint.with_name(BACKUP_NAME))["history"]) == 2
    write_checkpoint(checkpoint, content(4))
    assert len(read_checkpoint(checkpoint.with_name(BACKUP_NAME))["history"]) == 3
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["last.ckpt", BACKUP_NAME]


def test_the_checkpoint_before_is_kept_without_hard_links(checkpoint, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    write_checkpoint(checkpoint, content(3))
    assert len(read_checkpoint(checkpoint.with_name(BACKUP_NAME))["history"]) == 2


@DAMAGE
def test_a_damaged_file_without_another(checkpoint, damage):
    damage(checkpoint)
    with pytest.raises(ResumeError, match=r"is damaged, or not a checkpoint.*start a new run"):
        check_checkpoint(checkpoint, RUN)


@DAMAGE
def test_a_damaged_file_names_the_one_to_use(checkpoint, damage):
    write_checkpoint(checkpoint, content(3))
    damage(checkpoint)
    with pytest.raises(ResumeError, match=r"previous\.ckpt is whole .* epoch 2: copy it to last"):
        check_checkpoint(checkpoint, RUN)
    shutil.copy(checkpoint.with_name(BACKUP_NAME), checkpoint)
    assert len(check_checkpoint(checkpoint, RUN)["history"]) == 2


def test_both_files_damaged(checkpoint):
    write_checkpoint(checkpoint, content(3))
    truncate(checkpoint)
    truncate(checkpoint.with_name(BACKUP_NAME))
    with pytest.raises(ResumeError, match="start a new run"):
        check_checkpoint(checkpoint, RUN)


def test_a_full_disk_loses_nothing(checkpoint, monkeypatch):
    write_checkpoint(checkpoint, content(3))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write_checkpoint(checkpoint, content(4))
    monkeypatch.undo()
    assert len(check_checkpoint(checkpoint, RUN)["history"]) == 3
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["last.ckpt", BACKUP_NAME]


@pytest.mark.parametrize("other", [{"state_dict": {}}, [1, 2], 3])
def test_a_file_of_another_program(tmp_path, other):
    path = tmp_path / "last.ckpt"
    torch.save(other, path)
    with pytest.raises(ResumeError, match="not a checkpoint of this program"):
        check_checkpoint(path, RUN)


def test_a_text_file(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_text("not a checkpoint")
    with pytest.raises(ResumeError, match="not a checkpoint of this program"):
        check_checkpoint(path, RUN)
