"""Training on two processes of one machine gives what training on one gives."""

from __future__ import annotations

import pytest
import torch

from ddn_etf.checkpoints import read_checkpoint
from ddn_etf.history import read_history

pytestmark = pytest.mark.slow

SMALL = ("--epochs", "2", "--dim", "16", "--batch-size", "128", "--model", "mlp")
TWO = ("--devices", "2", "--strategy", "ddp")


def states(folders):
    return [read_checkpoint(folder / "last.ckpt")["state_dict"] for folder in folders]


@pytest.mark.parametrize(
    ("head", "tolerance"),
    [
        (("linear",), 1e-6),
        (("fixed-etf",), 1e-6),
        (("nearest-etf",), 1e-6),
        # After the warm-up the learned classifier has no gradient any more, and the means are still
        # short: the frame nearest to them moves further than they do.
        (("nearest-etf", "--warm-up", "1", "--batches", "stratified"), 1e-5),
    ],
    ids=["linear", "fixed-etf", "nearest-etf", "warm-up"],
)
def test_without_batch_normalisation_weights_and_metrics_are_equal(
    head, tolerance, tmp_path, python
):
    """The same batches, the same gradients: what remains is the order of float32 sums."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, devices in zip(folders, ((), TWO), strict=True):
        arguments = ("train", "--head", *head, "--output", folder, *SMALL, *devices)
        result = python("-m", "ddn_etf", *arguments)
        assert result.returncode == 0, result.stderr
        # PyTorch warns that in the warm-up all parameters have a gradient.
        lines = result.stderr.splitlines()
        assert all("find_unused_parameters=True" in line for line in lines)
        assert "--warm-up" in head or not lines
        # The second process says nothing.
        assert result.stdout.count("wrote ") == result.stdout.count(str(folder))
        assert result.stdout.count("digits, seed 0") == 1
    one, two = states(folders)
    for name, value in one.items():
        rounding = tolerance * max(1.0, value.double().abs().max().item())
        torch.testing.assert_close(two[name], value, rtol=tolerance, atol=rounding, msg=name)
    for mine, other in zip(*(read_history(f / "history.csv") for f in folders), strict=True):
        assert mine.values["train_accuracy"] == other.values["train_accuracy"]
        assert mine.values["test_accuracy"] == other.values["test_accuracy"]
        assert mine.values == pytest.approx(other.values, rel=1e-4, abs=1e-6)


def test_two_processes_resume_and_compare(tmp_path, python):
    arguments = ("compare", *SMALL, *TWO, "--seeds", "1", "--heads", "fixed-etf,nearest-etf")
    for folder in ("whole", "parts"):
        result = python("-m", "ddn_etf", *arguments, "--output", tmp_path / folder)
        assert result.returncode == 0, result.stderr
    # As if the second run had not been reached.
    for name in ("last.ckpt", "previous.ckpt", "history.csv"):
        (tmp_path / "parts" / "runs" / "nearest-etf-seed-0" / name).unlink()
    result = python("-m", "ddn_etf", *arguments, "--output", tmp_path / "parts", "--resume")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("(kept)") == 1
    for name in ("history.csv", "summary.csv"):
        whole, parts = (tmp_path / folder / name for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_a_warm_up_in_one_process_of_a_data_parallel_run(tmp_path, python):
    arguments = ("train", *SMALL, "--warm-up", "1", "--output", tmp_path)
    result = python("-m", "ddn_etf", *arguments, "--strategy", "ddp")
    assert result.returncode == 0, result.stderr
    assert read_checkpoint(tmp_path / "last.ckpt")["state_dict"]["head.nearest.started"]
