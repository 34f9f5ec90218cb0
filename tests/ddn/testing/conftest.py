"""A summary of the examples of the zoo at the end of a run."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
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
