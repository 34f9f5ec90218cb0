"""The command line, called in this process or in one of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ddn_etf.commands import app

ROOT = Path(__file__).resolve().parents[3]

Invoke = Callable[..., tuple[int, str]]


@pytest.fixture
def invoke() -> Invoke:
    """Exit status and output of a command, the output without line breaks and boxes."""

    def call(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(
            app, [str(argument) for argument in arguments], env={"COLUMNS": "160"}
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, " ".join(result.output.replace("│", " ").split())

    return call


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python with these arguments, in a process of its own."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        # Python only looks at the folder it is started in, if this is not already what is installed.
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "160"},
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of a CSV file."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures of reports, which take longer than the training in a test."""
    monkeypatch.setattr("ddn_etf.commands.folders.report_figures", lambda *_, **__: [])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["train", "--output", str(folder), "--epochs", "2", "--seed", "3", "--dim", "16"]
    result = CliRunner().invoke(app, [*arguments, "--batch-size", "256"])
    assert result.exit_code == 0, result.output
    return folder
