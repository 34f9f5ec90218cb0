"""The example scripts run by themselves and print what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
NUMBER = r"([-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?)"


def run(name: str) -> str:
    """What ``python examples/name`` prints; it has to end well and without a warning."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    script = ROOT / "examples" / name
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=environment,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def numbers(output: str, label: str) -> list[float]:
    """The numbers that follow ``label``, in the order of the output."""
    found = [float(text) for text in re.findall(rf"\b{re.escape(label)}\s+{NUMBER}", output)]
    assert found, f"no {label!r} in:\n{output}"
    return found


def test_every_example_is_short_and_tested():
    source = Path(__file__).read_text(encoding="utf-8")
    assert EXAMPLES == [
        "bilevel.py",
        "few_shot_class_incremental.py",
        "hugging_face_backbone.py",
        "long_tailed.py",
        "nearest_etf_head.py",
        "node_in_a_network.py",
        "timm_backbone.py",
        "torchvision_backbone.py",
        "two_processes.py",
    ]
    assert all(f'run("{name}")' in source for name in EXAMPLES)
    lines = {name: len((ROOT / "examples" / name).read_text().splitlines()) for name in EXAMPLES}
    assert max(lines.values()) <= 70, lines


def test_node_in_a_network():
    output = run("node_in_a_network.py")
    loss, temperature = numbers(output, "loss"), numbers(output, "temperature")
    # The best constant leaves the variance of the target, 0.22 for max(x_1, x_2) on [-1, 1]².
    assert loss[-1] < 0.25 * 0.22
    assert loss[-1] < 0.1 * loss[0]
    # The parameter of the node is trained, too.
    assert abs(temperature[-1] - temperature[0]) > 0.05
    assert "solved 100 of 100 problems" in output


def test_nearest_etf_head():
    output = run("nearest_etf_head.py")
    loss, accuracy, nc1 = (numbers(output, label) for label in ("loss", "accuracy", "NC1"))
    assert len(loss) == len(accuracy) == len(nc1) == 10
    assert loss[-1] < 0.6 * loss[0]
    assert accuracy[-1] > 0.9  # a guess gives 0.1
    assert nc1[-1] < 0.7 * nc1[0]


def test_bilevel():
    output = run("bilevel.py")
    *losses, best_of_grid = numbers(output, "validation loss")
    slopes, penalties = numbers(output, "slope"), numbers(output, "penalty")
    assert losses[-1] < 0.9 * losses[0]
    # Newton's method on the outer problem ends where its gradient, found through the node, is zero.
    assert abs(slopes[-1]) < 1e-10 < 1e-2 < abs(slopes[0])
    # It is the best of a grid of penalties; neighbours on the grid are 1 % apart.
    assert losses[-1] == pytest.approx(best_of_grid, rel=1e-4)
    assert losses[-1] <= best_of_grid + 1e-6
    assert penalties[-1] == penalties[-2] > 1


def test_long_tailed():
    output = run("long_tailed.py")
    assert "train samples 133 79 47 28 17 10 6 3 2 1" in output
    lines = {line.split()[0]: line for line in output.splitlines()[1:]}
    assert set(lines) == {"learned", "fixed-etf", "nearest-etf"}
    for name, line in lines.items():
        many, few = numbers(line, "many")[0], numbers(line, "few")[0]
        assert many > 95
        assert 30 < few < 80  # a guess gives 10
        is_etf = name != "learned"
        assert (numbers(line, "to-ETF")[0] < 1e-3) == is_etf
        # A simplex ETF of ten has cosines of -1/9, for rare classes as for all.
        assert (abs(numbers(line, "cosine")[0] + 1 / 9) < 1e-3) == is_etf


def test_few_shot_class_incremental():
    output = run("few_shot_class_incremental.py")
    assert numbers(output, "classes") == [6, 8, 10] * 2
    accuracy = numbers(output, "accuracy")
    for first, second, last in (accuracy[:3], accuracy[3:]):
        assert first > 0.95
        assert first > second > last
        # Forgetting all old classes would leave 2 of 10, learning no new ones 6 of 10.
        assert last > 0.65


def test_two_processes_have_one_frame():
    output = run("two_processes.py")
    differences = numbers(output, "frames differ by")
    assert set(differences) == {0.0}
    assert min(numbers(output, "accuracy")) > 0.95


@pytest.mark.parametrize("package", ["torchvision", "timm", "transformers"])
def test_backbones_of_other_libraries(package):
    output = {
        "torchvision": lambda: run("torchvision_backbone.py"),
        "timm": lambda: run("timm_backbone.py"),
        "transformers": lambda: run("hugging_face_backbone.py"),
    }[package]()
    if "missing" in output:
        assert package in output
        assert "pip install" in output
    else:
        assert min(numbers(output, "accuracy")) > 0.5
