"""Quadratic and cone programs against cvxpylayers and qpth: forward and backward pass, float64.

Every library runs in a process of its own, with its own interpreter if need be, and they take turns. All
inputs need gradients, the cotangent is random. ``residual`` is the largest residual of the optimality
conditions in the batch, found from the solution alone; with cones, the distance from an accurate solution.
``gradient`` is the largest error of some entries against finite differences of an accurate solver, relative
to the largest entry of the gradient by the same input.

Run:  python -m benchmarks.quadratic_programs [--python qpth=/path/to/its/python] [--only QP] [--repeats 9]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.checks import Reference
from benchmarks.timing import environment

PEERS = ("ddn", "qpth", "cvxpylayers")
OURS = "ddn"
ROOT = Path(__file__).parents[1]


class Peer:
    """The process of one library.

    Args:
        name: of the file ``benchmarks/peers/with_NAME.py``.
        python: its interpreter.
        threads: of the benchmark.
    """

    def __init__(self, name: str, python: str, threads: int) -> None:
        self.name = name
        count = str(threads)
        variables = {f"{library}_NUM_THREADS": count for library in ("OMP", "OPENBLAS", "MKL")}
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.peers.worker", name, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **variables},
            text=True,
        )
        hello = self._answer()
        self.kinds: dict[str, list[str]] = hello.get("kinds", {})
        self.versions = hello.get("versions", f"not installed ({hello.get('error')})")

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return {"error": "its process has ended"}
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"its process ended ({self.process.wait()})"}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(
    case: Case, candidates: list[tuple[str, Peer]], repeats: int, budget: float
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each run by candidate, and what went wrong.

    Runs shorter than 20 ms are timed in blocks. All take turns; a slow candidate drops out when it has used
    its ``budget`` of seconds, after three runs at least.
    """
    times: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    counts: dict[str, int] = {}
    for label, peer in candidates:
        once = peer.ask(candidate=label, count=1)
        counts[label] = max(1, int(0.02 / once["seconds"])) if "seconds" in once else 0
        times[label] = []
        failures |= {label: once["error"]} if "error" in once else {}
    for turn in range(repeats):
        for label, peer in candidates:
            spent = sum(times[label]) * counts[label]
            if label in failures or (turn >= 3 and spent > budget):
                continue
            times[label].append(peer.ask(candidate=label, count=counts[label])["seconds"])
    return times, failures


def table(case: Case, peers: list[Peer], repeats: int, budget: float) -> None:
    """Print the rows of one case."""
    print(f"\n### {case.name}\n")
    print("| | median, ms | least, ms | × ddn | residual | gradient |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    reference = Reference(case)
    candidates = [
        (label, peer) for peer in peers for label, kinds in peer.kinds.items() if case.kind in kinds
    ]
    failures: dict[str, str] = {}
    checks: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "found.npz")
        for label, peer in candidates:
            answer = peer.ask(candidate=label, case=case.name, file=file)
            if "error" in answer:
                failures[label] = answer["error"]
                continue
            with np.load(file) as found:
                y, *gradients = (found[name] for name in found.files)
            checks[label] = reference.residual(y), reference.gradient_error(gradients)
    ready = [(label, peer) for label, peer in candidates if label in checks]
    times, failed = measure(case, ready, repeats, budget)
    failures |= failed
    ours = statistics.median(times[OURS]) if times.get(OURS) else None
    for label, _ in candidates:
        if label in failures:
            print(f"| {label} | {failures[label]} | | | | |")
            continue
        median, least = statistics.median(times[label]), min(times[label])
        ratio = f"{median / ours:.1f}" if ours else ""
        residual, gradient = checks[label]
        cells = (
            f"{1e3 * median:.3g} | {1e3 * least:.3g} | {ratio} | {residual:.0e} | {gradient:.0e}"
        )
        print(f"| {label} | {cells} |", flush=True)
    for peer in peers:
        if not peer.kinds:
            print(f"| {peer.name} | {peer.versions} | | | | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds per candidate and case")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    # Where the accuracy of the reference ends: it says so itself.
    warnings.filterwarnings("ignore", message="Solution may be inaccurate")
    interpreters = dict(choice.split("=", 1) for choice in options.python)
    peers = [
        Peer(name, interpreters.get(name, sys.executable), options.threads)
        for name in options.peers
    ]
    print(f"{environment().rsplit(',', 1)[0]}, {options.threads} threads")
    for peer in peers:
        print(f"* {peer.name}: {peer.versions}")
    for case in CASES:
        if options.only in case.name:
            table(case, peers, options.repeats, options.budget)
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
