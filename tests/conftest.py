"""Options, fixtures and profiles shared by all tests."""

from __future__ import annotations

import os
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.tolerances import TOLERANCES, Tolerance

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCES}

# Time limits would fail on a loaded machine, so neither profile has one.
settings.register_profile(
    "local", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)
# On CI the examples are the same in every run, and a failure prints how to reproduce it.
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ddn-torch")
    group.addoption("--device", default="cpu", help="device the tests compute on (default: cpu)")
    group.addoption(
        "--dtype",
        default="float64",
        choices=sorted(DTYPES),
        help="dtype the tests compute in (default: float64)",
    )


def pytest_configure(config: pytest.Config) -> None:
    device = torch.device(config.getoption("--device"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError(f"--device {device}: torch finds no CUDA device on this machine")
    # Parallel workers share the cores: one thread each. The variable is for the libraries that a
    # worker loads after it has started, and for the programs that a test starts.
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device on this machine"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What came of the examples of the zoo (also where workers ran them: this file is always loaded)."""
    counts: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "zoo" and getattr(report, "when", "") == "call":
                    problem, outcomes = value
                    counts.setdefault(problem, Counter()).update(outcomes)
    if not counts:
        return
    terminalreporter.section("examples of the zoo")
    for problem, outcomes in counts.items():
        listed = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
        terminalreporter.line(f"{problem:32} {listed}")
    total = sum(map(Counter.total, counts.values()))
    terminalreporter.line(f"{total} examples of {len(counts)} problems, none wrong in silence")


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    """Where the tests compute: option `--device`."""
    return torch.device(pytestconfig.getoption("--device"))


@pytest.fixture(scope="session")
def dtype(pytestconfig: pytest.Config) -> torch.dtype:
    """What the tests compute in: option `--dtype`."""
    return DTYPES[pytestconfig.getoption("--dtype")]


@pytest.fixture(scope="session")
def tolerance(dtype: torch.dtype) -> Tolerance:
    """The named tolerances of the dtype in use."""
    return TOLERANCES[dtype]


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Start every test from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - scikit-learn and scipy draw from the global state
    torch.manual_seed(0)
