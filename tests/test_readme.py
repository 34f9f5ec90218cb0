"""The README keeps what it says: its example runs, its commands and links exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_example(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    namespace: dict[str, object] = {"__name__": "readme"}
    exec(example, namespace)
    x, y = namespace["x"], namespace["y"]
    # y = x / Σ x, so dy_0/dx = (e_0 Σ x − x_0 1) / (Σ x)² with Σ x = 8. The node is solved by
    # iteration in float64; the printed figures must be these as well.
    expected_y = torch.tensor([0.125, 0.25, 0.625], dtype=torch.float64)
    expected_gradient = torch.tensor([7.0, -1.0, -1.0], dtype=torch.float64) / 64
    torch.testing.assert_close(y, expected_y, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(x.grad, expected_gradient, rtol=1e-8, atol=1e-8)
    printed = capsys.readouterr().out
    assert all(number in printed for number in ("0.1250", "0.2500", "0.6250", "0.1094", "-0.0156"))


@pytest.mark.parametrize(
    ("marker", "extra", "program"),
    [("compare command", "train", "ddn-etf compare"), ("test command", "dev", "pytest")],
)
def test_commands_are_one_line_each(marker, extra, program):
    pattern = rf"^<!-- {marker} -->\n```sh\n([^\n]+)\n```$"
    (command,) = re.findall(pattern, README, re.MULTILINE)
    assert f'".[{extra}]"' in command
    assert program in command
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]
    assert "ddn-etf" in project["scripts"]


def test_links_lead_to_files():
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in t]
    assert targets
    assert [target for target in targets if not (ROOT / target.partition("#")[0]).exists()] == []
