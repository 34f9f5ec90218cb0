from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddn_etf.checkpoints import ResumeError, check_checkpoint, run_identity
from ddn_etf.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=3)
RUN = run_identity("linear", 0, SETTINGS)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"run": RUN, "history": [{}, {}]}, path)
    return path


def test_the_same_run_may_go_on(checkpoint):
    check_checkpoint(checkpoint, RUN)
    check_checkpoint(checkpoint, {**RUN, "epochs": 50})
    check_checkpoint(checkpoint, {**RUN, "epochs": 2})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run_identity("fixed-etf", 0, SETTINGS), "head = 'linear', and head = 'fixed-etf'"),
        (run_identity("linear", 1, SETTINGS), "seed = 0, and seed = 1 is asked for"),
        (
            run_identity("linear", 0, replace(SETTINGS, learning_rate=0.5)),
            r"learning_rate = 0\.1, and learning_rate = 0\.5",
        ),
        ({**RUN, "epochs": 1}, "already has 2 epochs, and 1 are asked for"),
    ],
)
def test_another_run_may_not(checkpoint, other, message):
    with pytest.raises(ResumeError, match=message):
        check_checkpoint(checkpoint, other)


def test_no_file(tmp_path):
    with pytest.raises(ResumeError, match="there is no checkpoint"):
        check_checkpoint(tmp_path / "last.ckpt", RUN)


def test_a_damaged_file(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    with pytest.raises(ResumeError, match="is damaged, or not a checkpoint"):
        check_checkpoint(checkpoint, RUN)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], 3])
def test_a_file_of_another_program(tmp_path, content):
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    with pytest.raises(ResumeError, match="not a checkpoint of this program"):
        check_checkpoint(path, RUN)


def test_a_text_file(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_text("not a checkpoint")
    with pytest.raises(ResumeError, match="not a checkpoint of this program"):
        check_checkpoint(path, RUN)
