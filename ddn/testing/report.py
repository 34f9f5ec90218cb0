"""What a check of a node found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CheckFailure", "CheckReport", "CheckResult"]


class CheckFailure(AssertionError):  # noqa: N818 - a finding, like AssertionError
    """A node breaks its contract; ``report`` has every check that was run."""

    def __init__(self, report: CheckReport) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True)
class CheckResult:
    """One check.

    Attributes:
        name: what was checked.
        passed: whether it held.
        detail: largest error, or what went wrong.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """All checks of a node, readable when printed."""

    node: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(result.passed for result in self.results)

    def __str__(self) -> str:
        failures = sum(not result.passed for result in self.results)
        head = f"{self.node}: {len(self.results) - failures} of {len(self.results)} checks passed"
        lines = [
            f"  {'ok  ' if result.passed else 'FAIL'} {result.name}: {result.detail}"
            for result in self.results
        ]
        return "\n".join([head, *lines])
