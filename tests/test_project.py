"""What the project says of itself in several places agrees."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import ddn

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert ddn.__version__ == version
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert re.search(rf"^## {re.escape(version)}\b", read("CHANGELOG.md"), re.MULTILINE)


def test_constraints_name_every_dependency_of_every_extra_but_bench_and_vision():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = {
        k: v for k, v in project["optional-dependencies"].items() if k not in ("bench", "vision")
    }
    required = {
        re.match(r"[\w-]+", requirement).group().lower()
        for requirements in (project["dependencies"], *extras.values())
        for requirement in requirements
    } - {"ddn-torch"}
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in read("constraints.txt").splitlines()
        if not line.startswith("#")
    }
    assert required <= pinned, f"not in constraints.txt: {sorted(required - pinned)}"
