"""Checks for nodes, for anyone who writes one; with pytest or without.

``check_node`` needs torch alone, ``inputs`` needs hypothesis (``pip install "ddn-torch[testing]"``).
"""

from ddn.testing.check import check_node
from ddn.testing.report import CheckFailure, CheckReport, CheckResult
from ddn.testing.strategies import inputs

__all__ = ["CheckFailure", "CheckReport", "CheckResult", "check_node", "inputs"]
