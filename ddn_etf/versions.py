"""What a result was made with: versions of the programs, the machine, the commit of the source."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["versions"]

_PACKAGES = ("ddn-torch", "torch", "lightning", "scikit-learn", "numpy", "scipy", "matplotlib")


def versions() -> dict[str, str]:
    """Python, the system, the packages that results depend on, and the commit where there is one.

    A commit is that of the checkout this package is run from; ``+ changes`` follows it where files
    differ from it. There is none for an installed package.
    """
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    commit = _commit(Path(__file__).resolve().parents[1])
    return found | ({"commit": commit} if commit else {})


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit} + changes" if changes else commit
