from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ddn_etf import commands
from ddn_etf.methods import DEFAULT_METHODS

ROOT = Path(__file__).resolve().parents[2]


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
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "160"}
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


@pytest.mark.parametrize("command", ["compare", "train", "ufm"])
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
        (("train", "--loss", "hinge"), "unknown loss 'hinge'; known losses: cross-entropy"),
        (("train", "--optimizer", "lion"), "unknown optimizer 'lion'; known optimizers: sgd"),
        (("train", "--schedule", "step"), "unknown schedule 'step'; known schedules: constant"),
        (("train", "--dataset", "letters"), "unknown data set 'letters'; known: digits"),
        (("train", "--model", "brain"), "unknown backbone 'brain'; known: small-convnet"),
        (
            ("train", "--dataset", "mnist"),
            "read from files: give the folder that holds them with --data",
        ),
        (("compare", "--epochs", "0"), "Invalid value for '--epochs':"),
        (("train", "--epochs", "0"), "Invalid value for '--epochs':"),
        (("compare", "--seeds", "0"), "Invalid value for '--seeds':"),
        (("train", "--seed", "-1"), "Invalid value for '--seed':"),
        (("train", "--learning-rate", "0"), "learning_rate must be a positive number, found 0.0"),
        (("train", "--devices", "3"), "batch_size must be divisible by the number of devices, 3"),
        (("train", "--precision", "16-mixed"), "precision must not be 16-mixed on the CPU"),
        (("compare", "--accelerator", "abacus"), "accelerator must be one of cpu, gpu"),
        (("train", "--resume", "--overwrite"), "--resume continues what --overwrite would replace"),
        (("compare", "--resume", "--overwrite"), "--resume keeps what --overwrite would replace"),
        (("train", "--dim", "5"), "10 classes"),
        (("train", "--imbalance", "100000"), "class"),
        (("compete",), "No such command 'compete'"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output = invoke(*arguments, *(("--output", "new") if "--dataset" in arguments else ()))
    assert status == 2
    assert message in output
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_commands():
    status, output = invoke("--help")
    assert status == 0
    for command in ("train", "compare", "evaluate", "ufm", "report"):
        assert f" {command} " in output


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
    result = python("-m", "ddn_etf", "compare", "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    median = {
        (row["head"], row["quantity"]): float(row["median"])
        for row in rows(tmp_path / "summary.csv")
    }
    nearest = median["nearest-etf", "epochs_to_99"]
    for method in DEFAULT_METHODS:
        head = method.name
        assert median[head, "train_accuracy"] > 99.5
        assert median[head, "test_accuracy"] > 97
        assert nearest <= median[head, "epochs_to_99"]
        assert median["nearest-etf", "train_NC1"] <= median[head, "train_NC1"]
    # There is no severity without a mistake, as on the train split.
    missing = {"epochs_to_100", "train_mistake_severity"}
    measured = [value for (_, name), value in median.items() if name not in missing]
    assert torch.tensor(measured).isfinite().all()
