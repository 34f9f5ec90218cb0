from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import tomllib

import pytest
from PIL import Image

from ddn_etf.checkpoints import read_checkpoint
from ddn_etf.commands.progress import RunProgress
from ddn_etf.data import DATASETS, DatasetSource
from ddn_etf.errors import LabelError

pytestmark = pytest.mark.usefixtures("without_figures")

SMALL = ("--epochs", "2", "--head", "nearest-etf", "--dim", "16", "--batch-size", "256")
FILES = {
    "config.toml",
    "figures",
    "history.csv",
    "last.ckpt",
    "previous.ckpt",
    "report.html",
    "summary.csv",
    "versions.json",
}


def test_the_run_folder_is_complete(trained, rows):
    assert {path.name for path in trained.iterdir()} == FILES
    config = tomllib.loads((trained / "config.toml").read_text())["train"]
    assert (config["seed"], config["epochs"], config["dim"]) == (3, 2, 16)
    assert {(row["head"], row["seed"]) for row in rows(trained / "history.csv")} == {
        ("nearest-etf", "3")
    }
    assert "torch" in json.loads((trained / "versions.json").read_text())
    page = (trained / "report.html").read_text()
    assert "ddn-etf train --dataset digits --imbalance-kind exponential" in page
    assert "--model small-convnet --dim 16" in page
    assert "cosine_margins.png" in {path.name for path in (trained / "figures").iterdir()}


def test_the_configuration_of_a_run_makes_it_again(trained, tmp_path, invoke):
    status, output = invoke("train", "--config", trained / "config.toml", "--output", tmp_path)
    assert status == 0, output
    assert "digits, seed 3" in output
    assert "test accuracy (%)" in output
    for name in ("history.csv", "summary.csv", "config.toml"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


@pytest.fixture
def keyboard():
    """A background job of a shell starts with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def interrupt_at(monkeypatch, epoch):
    def interrupt(self, record):
        if record.epoch == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunProgress, "update", interrupt)


def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path, monkeypatch, invoke, keyboard):
    status, output = invoke("train", "--output", tmp_path / "whole", *SMALL)
    assert status == 0, output
    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        status, output = invoke("train", "--output", parts, *SMALL)
    assert status == 130
    command = f"ddn-etf train --config {parts}/config.toml --output {parts} --resume"
    assert f"Interrupted. {parts}/last.ckpt has the state after epoch 1. To go on: " in output
    assert output.endswith(command)
    assert signal.getsignal(signal.SIGINT) == keyboard

    status, output = invoke("train", "--output", parts, *SMALL)
    assert status == 1
    assert "already holds last.ckpt, history.csv; give --resume to continue, or" in output

    status, output = invoke(*command.split()[1:])
    assert status == 0, output
    for name in ("history.csv", "summary.csv", "config.toml"):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_interrupted_before_the_first_epoch_has_ended(tmp_path, monkeypatch, invoke, keyboard):
    interrupt_at(monkeypatch, 1)
    (tmp_path / "run").mkdir()
    status, output = invoke("train", "--output", tmp_path / "run", *SMALL)
    assert status == 130
    assert "No epoch was finished, so that nothing is saved. To go on: ddn-etf train" in output
    assert not output.endswith("--resume")


def test_a_full_disk(tmp_path, monkeypatch, invoke):
    status, output = invoke("train", "--output", tmp_path, *SMALL)
    assert status == 0, output
    before = (tmp_path / "last.ckpt").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        longer = ("train", "--output", tmp_path, *SMALL, "--epochs", "3", "--resume")
        status, output = invoke(*longer)
    assert status == 1
    assert f"Error: cannot write {tmp_path}/config.toml (No space left on device)" in output
    assert "Traceback" not in output
    assert (tmp_path / "last.ckpt").read_bytes() == before
    status, output = invoke(*longer)
    assert status == 0, output


def test_a_damaged_checkpoint(trained, tmp_path, invoke):
    for name in ("last.ckpt", "previous.ckpt", "config.toml"):
        (tmp_path / name).write_bytes(
            (trained / name).read_bytes()[: 500 if "last" in name else None]
        )
    again = ("train", "--config", tmp_path / "config.toml", "--output", tmp_path, "--resume")
    status, output = invoke(*again)
    assert status == 1
    assert (
        f"previous.ckpt is whole and has the state after epoch 1: copy it to {'last.ckpt'}"
        in output
    )
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "previous.ckpt").read_bytes())
    status, output = invoke(*again)
    assert status == 0, output
    assert (tmp_path / "history.csv").read_bytes() == (trained / "history.csv").read_bytes()


def bad_labels(root):
    raise LabelError("letters: train labels run from 0 to 26; with num_classes = 26 they must lie")


def damaged_image(root):
    path = root / "image.png"
    path.write_bytes(b"not an image")
    return Image.open(path)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (bad_labels, "Error: letters: train labels run"),
        (damaged_image, "cannot identify image file"),
    ],
)
def test_bad_data_lose_nothing_even_with_overwrite(
    read, message, trained, tmp_path, invoke, monkeypatch
):
    monkeypatch.setitem(DATASETS, "letters", DatasetSource("letters", "letters", True, read))
    for name in ("last.ckpt", "config.toml", "history.csv"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    arguments = ("--dataset", "letters", "--data-folder", tmp_path, "--overwrite")
    status, output = invoke("train", "--output", tmp_path, *arguments)
    assert status == 1
    assert message in output
    for name in ("last.ckpt", "config.toml", "history.csv"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


VARIANT = (
    *("--imbalance", "4", "--label-noise", "0.1", "--batches", "stratified", "--loss", "focal"),
    *("--loss-options", "gamma=1", "--class-balanced", "--average", "cumulative", "--warm-up", "1"),
    *("--proximal-weight", "0.01", "--batch-size", "64"),
)


def test_variants_are_in_the_run_folder_and_in_the_identity(tmp_path, invoke):
    status, output = invoke("train", "--output", tmp_path, *SMALL, *VARIANT)
    assert status == 0, output
    assert "digits, imbalance 4 (exponential), seed 0, label noise 0.1 (symmetric)" in output
    table = tomllib.loads((tmp_path / "config.toml").read_text())["train"]
    assert table["imbalance"] == 4
    assert table["label-noise"] == 0.1
    assert table["batches"] == "stratified"
    assert table["loss-options"] == "gamma=1"
    assert table["class-balanced"] is True
    assert table["warm-up"] == 1
    run = read_checkpoint(tmp_path / "last.ckpt")["run"]
    assert run["batches"] == "Stratified()"
    assert "gamma=1.0" in run["loss"]
    assert "WarmUpHead" in run["head_options"]
    assert "CumulativeAverage()" in run["head_options"]
    again = ("train", "--config", tmp_path / "config.toml", "--output", tmp_path, "--resume")
    status, output = invoke(*again)
    assert status == 0, output
    for flag, value, message in (
        ("--label-noise", "0.2", "--label-noise 0.1"),
        ("--batches", "shuffled", "--batches stratified"),
        ("--loss-options", "gamma=3", "--loss-options gamma=1"),
        ("--average", "exponential", "--average cumulative"),
        ("--proximal-weight", "0.1", "--proximal-weight 0.01"),
        ("--seed", "1", "--seed 0"),
        ("--no-class-balanced", None, "--class-balanced"),
    ):
        words = [word for word in (flag, value) if word is not None]
        status, output = invoke(*again, *words)
        assert status == 1, output
        expected = f"a run with {message}, and {' '.join(words)} is asked for; resume with the same"
        assert f"last.ckpt belongs to {expected}" in output
    # Without the flags of the folder the difference is told as the checkpoint knows it.
    (tmp_path / "config.toml").rename(tmp_path / "mine.toml")
    mine = ("train", "--config", tmp_path / "mine.toml", "--output", tmp_path, "--resume")
    status, output = invoke(*mine, "--batches", "shuffled")
    assert status == 1
    assert "belongs to a run with batches = 'Stratified()', and batches = 'Shuffled()'" in output
    (tmp_path / "mine.toml").rename(tmp_path / "config.toml")
    status, output = invoke("evaluate", tmp_path, "--output", tmp_path / "measured")
    assert status == 0, output
    status, output = invoke("report", tmp_path, "--output", tmp_path / "again")
    assert status == 0, output
    assert "digits, imbalance 4 (exponential), seed 0, label noise 0.1 (symmetric)" in output


def test_an_option_that_the_head_does_not_have(tmp_path, invoke):
    status, output = invoke("train", "--output", tmp_path, "--head", "linear", "--warm-up", "1")
    assert status == 2
    assert "head 'linear' has no --warm-up: only heads that follow the class means" in output


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_failed_start_leaves_no_folder_behind(command, tmp_path, invoke, monkeypatch):
    monkeypatch.setitem(DATASETS, "letters", DatasetSource("letters", "letters", False, bad_labels))
    (tmp_path / "mine").mkdir()
    for place in (tmp_path / "new" / "folder", tmp_path / "mine"):
        status, output = invoke(command, "--output", place, "--dataset", "letters")
        assert status == 1
        assert "letters: train labels run" in output
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_an_image_that_cannot_be_read_in_the_middle_of_training(tmp_path, invoke):
    for split in ("train", "test"):
        for k in range(2):
            (tmp_path / "images" / split / f"class{k}").mkdir(parents=True)
            for number in range(4):
                image = Image.new("RGB", (8, 8), (40 * number, 90 * k, 10))
                image.save(tmp_path / "images" / split / f"class{k}" / f"{number}.png")
    run = tmp_path / "run"
    arguments = (
        *("train", "--output", run, "--dataset", "image-folder", "--batch-size", "4"),
        *("--data-folder", tmp_path / "images", "--model", "mlp", "--dim", "4"),
    )
    status, output = invoke(*arguments, "--epochs", "1")
    assert status == 0, output
    before = (run / "last.ckpt").read_bytes()
    broken = tmp_path / "images" / "train" / "class1" / "2.png"
    broken.write_bytes(broken.read_bytes()[:40])
    status, output = invoke(*arguments, "--epochs", "2", "--resume")
    assert status == 1
    assert "2.png" in output
    assert "Traceback" not in output
    assert (run / "last.ckpt").read_bytes() == before


def test_resume_without_a_checkpoint(tmp_path, invoke):
    status, output = invoke("train", "--output", tmp_path / "absent", "--resume")
    assert status == 1
    assert f"Error: there is no checkpoint {tmp_path / 'absent' / 'last.ckpt'}" in output
    assert list(tmp_path.iterdir()) == []


def test_other_versions_are_a_note(trained, tmp_path, invoke, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    again = ("train", "--config", folder / "config.toml", "--output", folder, "--resume")
    assert "Note" not in invoke(*again)[1]
    monkeypatch.setattr("ddn_etf.checkpoints._versions", lambda: {"torch": "9.9"})
    status, output = invoke(*again, "--epochs", "3")
    assert status == 0, output
    assert output.count(f"Note: {folder / 'last.ckpt'} was written with torch ") == 1
    assert "(now 9.9): what comes after it need not be" in output
    # The checkpoint of the third epoch is one of the new version.
    assert "Note" not in invoke(*again, "--epochs", "3")[1]


def test_resume_of_another_run_changes_nothing(trained, invoke):
    before = {path: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    config = ("--config", trained / "config.toml", "--output", trained, "--resume")
    status, output = invoke("train", *config, "--head", "linear")
    assert status == 1
    assert "belongs to a run with --head nearest-etf, and --head linear is asked for" in output
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--batch-size", "1348"), 1, "batch_size = 1348 must lie between 1 and the number of tr"),
        (("--dim", "8"), 2, "use dim >= 9"),
        (("--dataset", "gaussian-mixture"), 2, "an input has shape"),
        (("--tensorboard",), 1, "A log for TensorBoard needs the package 'tensorboard'"),
        (("--accelerator", "gpu"), 2, "accelerator gpu with devices = 1: PyTorch finds 0"),
    ],
)
def test_what_cannot_be_done_is_found_before_anything_is_replaced(
    arguments, status, message, trained, tmp_path, invoke, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for name in ("last.ckpt", "config.toml"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    found, output = invoke("train", "--output", tmp_path, "--overwrite", *arguments)
    assert found == status
    assert message in output
    for name in ("last.ckpt", "config.toml"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()
