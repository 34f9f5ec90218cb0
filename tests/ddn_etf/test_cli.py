from __future__ import annotations

import csv
import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ddn_etf import commands
from ddn_etf.methods import METHODS
from ddn_etf.report import COMMAND_LINE_SETTINGS, REPORT_FILES
from ddn_etf.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
TWO_EPOCHS = ("--epochs", "2", "--head", "nearest-etf")


def invoke(*arguments: str | Path):
    """Exit status and output of a command, the output without line breaks and boxes."""
    result = CliRunner().invoke(
        commands.app, [str(argument) for argument in arguments], env={"COLUMNS": "160"}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Python only looks at the folder it is started in, if this is not already what is installed.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_compare_prints_a_table_and_writes_all_files(tmp_path):
    status, output = invoke(
        "compare", "--output", tmp_path / "new" / "folder", "--epochs", "1", "--seeds", "2"
    )
    assert status == 0, output
    for head in METHODS:
        for seed in (0, 1):
            assert f"{head} seed {seed} loss" in output.replace("  ", " ")
    assert "digits after 1 epoch: median over 2 seeds [range]" in output
    assert "epochs to 99 % train never" in output
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert files == sorted(REPORT_FILES)
    found = {
        (row["head"], row["seed"]) for row in rows(tmp_path / "new" / "folder" / "history.csv")
    }
    assert found == {(head, seed) for head in METHODS for seed in "01"}


def test_compare_trains_the_heads_asked_for(tmp_path):
    status, output = invoke(
        "compare",
        "--output",
        tmp_path,
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--heads",
        " fixed-etf ,linear",
    )
    assert status == 0, output
    assert list(dict.fromkeys(row["head"] for row in rows(tmp_path / "summary.csv"))) == [
        "fixed-etf",
        "linear",
    ]


def test_results_are_not_overwritten_unless_asked_for(tmp_path):
    (tmp_path / "summary.csv").write_text("precious")
    (tmp_path / "notes.txt").write_text("mine")
    arguments = (
        "compare",
        "--output",
        tmp_path,
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--heads",
        "linear",
    )
    status, output = invoke(*arguments)
    assert status == 1
    assert f"Error: {tmp_path} already holds summary.csv; give another --output, or" in output
    assert (tmp_path / "summary.csv").read_text() == "precious"
    status, output = invoke(*arguments, "--overwrite")
    assert status == 0, output
    assert len(rows(tmp_path / "summary.csv")) > 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("command", ["compare", "train"])
def test_an_output_folder_that_cannot_be_written_to(command, tmp_path):
    (tmp_path / "file").write_text("")
    status, output = invoke(command, "--output", tmp_path / "file" / "folder")
    assert status == 1
    assert f"Error: cannot write to the output folder {tmp_path / 'file' / 'folder'}" in output
    assert "choose another --output" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("compare", "--heads", "linear,etf"),
            "unknown head 'etf'; known heads: linear, fixed-etf",
        ),
        (("compare", "--heads", ","), "no head given; known heads: linear"),
        (("compare", "--heads", "linear,linear"), "head 'linear' is given 2 times"),
        (("train", "--head", "etf"), "unknown head 'etf'; known heads: linear, fixed-etf"),
        (("compare", "--epochs", "0"), "Invalid value for '--epochs':"),
        (("train", "--epochs", "0"), "Invalid value for '--epochs':"),
        (("compare", "--seeds", "0"), "Invalid value for '--seeds':"),
        (("train", "--seed", "-1"), "Invalid value for '--seed':"),
        (("train", "--learning-rate", "0"), "learning_rate must be a positive number, found 0.0"),
        (("compare", "--accelerator", "abacus"), "accelerator must be one of cpu, gpu"),
        (("train", "--resume", "--overwrite"), "--resume continues what --overwrite would replace"),
        (("compete",), "No such command 'compete'"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output = invoke(*arguments)
    assert status == 2
    assert message in output
    assert list(tmp_path.iterdir()) == []


def test_a_batch_larger_than_the_data(tmp_path):
    status, output = invoke("train", "--output", tmp_path, "--batch-size", "1348")
    assert status == 1
    assert (
        "Error: batch_size = 1348 must lie between 1 and the number of training samples" in output
    )


def test_the_options_have_the_defaults_of_the_settings():
    settings = TrainingSettings()
    for command in (commands.compare_command, commands.train_command):
        parameters = inspect.signature(command).parameters
        for name in COMMAND_LINE_SETTINGS:
            assert parameters[name].default == getattr(settings, name), name
    assert inspect.signature(commands.compare_command).parameters["heads"].default.split(
        ","
    ) == list(METHODS)


def test_train_prints_a_table_and_writes_history_and_checkpoint(tmp_path):
    status, output = invoke("train", "--output", tmp_path, "--epochs", "1", "--seed", "3")
    assert status == 0, output
    assert "digits, seed 3" in output
    assert "test accuracy (%)" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "last.ckpt"]
    assert {(row["head"], row["seed"]) for row in rows(tmp_path / "history.csv")} == {
        ("nearest-etf", "3")
    }


def test_an_interrupted_run_is_resumed_with_the_same_numbers(tmp_path, monkeypatch):
    status, output = invoke("train", "--output", tmp_path / "whole", *TWO_EPOCHS)
    assert status == 0, output

    def interrupt(self, record):
        if record.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    # A background job of a shell starts with the signal ignored.
    handler = signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    with monkeypatch.context() as patch:
        patch.setattr(commands._RunProgress, "update", interrupt)
        status, output = invoke("train", "--output", tmp_path / "parts", *TWO_EPOCHS)
    assert status == 130
    assert output.endswith("Interrupted. The same command with --resume continues.")
    assert signal.getsignal(signal.SIGINT) == handler
    signal.signal(signal.SIGINT, before)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["last.ckpt"]

    status, output = invoke("train", "--output", tmp_path / "parts", *TWO_EPOCHS)
    assert status == 1
    assert "already holds last.ckpt; give --resume to continue, or --overwrite" in output

    status, output = invoke("train", "--output", tmp_path / "parts", *TWO_EPOCHS, "--resume")
    assert status == 0, output
    whole, parts = (tmp_path / name / "history.csv" for name in ("whole", "parts"))
    assert parts.read_bytes() == whole.read_bytes()


def test_resume_without_a_checkpoint(tmp_path):
    status, output = invoke("train", "--output", tmp_path / "absent", "--resume")
    assert status == 1
    assert f"Error: there is no checkpoint {tmp_path / 'absent' / 'last.ckpt'}" in output
    assert list(tmp_path.iterdir()) == []


def test_resume_of_another_run(tmp_path):
    status, output = invoke("train", "--output", tmp_path, "--epochs", "1", "--head", "linear")
    assert status == 0, output
    status, output = invoke("train", "--output", tmp_path, "--epochs", "1", "--resume")
    assert status == 1
    assert "belongs to a run with head = 'linear', and head = 'nearest-etf' is asked for" in output


def test_the_package_can_be_run_and_helps_without_importing_what_takes_time():
    result = python(
        "-c",
        "import atexit, runpy, sys\n"
        "slow = {'lightning', 'sklearn', 'matplotlib'}\n"
        "atexit.register(lambda: print('imported', sorted(slow & set(sys.modules))))\n"
        "sys.argv = ['ddn_etf', 'compare', '--help']\n"
        "runpy.run_module('ddn_etf', run_name='__main__')\n",
    )
    assert result.returncode == 0, result.stderr
    assert "Usage: ddn-etf compare" in result.stdout
    assert "--overwrite" in result.stdout
    assert result.stdout.endswith("imported []\n")


@pytest.mark.parametrize("package", ["typer", "lightning"])
def test_a_missing_package_is_named_with_its_remedy(package, tmp_path):
    result = python(
        "-c",
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        f"sys.argv = ['ddn-etf', 'compare', '--output', {str(tmp_path)!r}]\n"
        "from ddn_etf.cli import main\n"
        "main()\n",
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert f"needs the package '{package}'" in result.stderr
    assert 'pip install "ddn-torch[train]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_the_default_comparison(tmp_path):
    start = time.monotonic()
    result = python("-m", "ddn_etf", "compare", "--output", str(tmp_path))
    seconds = time.monotonic() - start
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert seconds < 120
    median = {
        (row["head"], row["quantity"]): float(row["median"])
        for row in rows(tmp_path / "summary.csv")
    }
    nearest = median["nearest-etf", "epochs_to_target"]
    for head in METHODS:
        assert median[head, "train_accuracy"] > 99.5
        assert median[head, "test_accuracy"] > 97
        assert nearest <= median[head, "epochs_to_target"]
        assert median["nearest-etf", "train_NC1"] <= median[head, "train_NC1"]
    assert torch.tensor(list(median.values())).isfinite().all()
