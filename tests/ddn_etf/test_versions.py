from __future__ import annotations

import platform
import subprocess

import torch

from ddn_etf import versions as module
from ddn_etf.versions import versions


def test_what_results_depend_on_is_there():
    found = versions()
    assert found["Python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert {"system", "ddn-torch", "lightning", "numpy", "scipy"} <= found.keys()


def test_the_commit_is_that_of_the_checkout(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert module._commit(tmp_path) is None
    git("init", "-q")
    assert module._commit(tmp_path) is None  # nothing committed yet
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "first")
    assert module._commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("2")
    assert module._commit(tmp_path) == git("rev-parse", "HEAD") + " + changes"
