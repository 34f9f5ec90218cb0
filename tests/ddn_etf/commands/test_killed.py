"""A run that is killed with SIGKILL in the middle of an epoch, and resumed."""

from __future__ import annotations

import re

import pytest
import torch

from ddn_etf.checkpoints import read_checkpoint
from ddn_etf.methods import METHODS

pytestmark = pytest.mark.usefixtures("without_figures")

HEADS = ["nearest-etf"]
OTHERS = [name for name in METHODS if name not in HEADS]
SMALL = ("--epochs", "3", "--dim", "16", "--batch-size", "256", "--schedule", "cosine")

# One process imports everything once. Each of its children trains a head and, in the middle of the
# second epoch, kills itself as `kill -9` would.
PROGRAM = """
import os, signal, sys
from ddn_etf import commands, training
from ddn_etf.classifier import Classifier
from ddn_etf.commands import folders

step = Classifier.training_step

def step_and_die(self, batch, batch_index):
    if (self.current_epoch, batch_index) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_index)

Classifier.training_step = step_and_die
output, heads, arguments = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
for head in heads:
    child = os.fork()
    if child == 0:
        commands.app(["train", "--head", head, "--output", f"{output}/{head}", *arguments])
    _, status = os.waitpid(child, 0)
    print(head, os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("heads", [HEADS, pytest.param(OTHERS, marks=pytest.mark.slow)])
def test_resumed_it_equals_a_run_that_was_not_killed(heads, tmp_path, python, invoke):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    result = python("-c", PROGRAM, killed, ",".join(heads), *SMALL)
    assert result.returncode == 0, result.stderr
    assert re.findall(r"^(\S+) -9$", result.stdout, re.MULTILINE) == heads, result.stdout
    for head in heads:
        folder = killed / head
        files = {path.name for path in folder.iterdir()}
        assert files == {"config.toml", "history.csv", "last.ckpt"}
        assert len(read_checkpoint(folder / "last.ckpt")["history"]) == 1
        again = ("--config", folder / "config.toml", "--output", folder, "--resume")
        status, output = invoke("train", *again)
        assert status == 0, output
        status, output = invoke("train", "--head", head, "--output", whole / head, *SMALL)
        assert status == 0, output
        for name in ("history.csv", "summary.csv", "config.toml"):
            assert (folder / name).read_bytes() == (whole / head / name).read_bytes(), name
        check_equal(*(read_checkpoint(place / head / "last.ckpt") for place in (killed, whole)))


def check_equal(mine, other):
    """Weights, buffers and momenta, bit for bit."""
    assert mine["state_dict"].keys() == other["state_dict"].keys()
    for name, value in other["state_dict"].items():
        assert torch.equal(mine["state_dict"][name], value), name
    momenta = [
        [state["momentum_buffer"] for state in each["optimizer_states"][0]["state"].values()]
        for each in (mine, other)
    ]
    assert len(momenta[0]) > 0
    assert all(map(torch.equal, *momenta))
