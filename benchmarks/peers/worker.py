"""The process of one peer: reads requests from its standard input, a line of JSON each, and answers so.

A request with ``case`` prepares a candidate, runs it once and writes its solution and gradients to ``file``;
one with ``count`` times that many runs.

Run by :mod:`benchmarks.quadratic_programs`:  python -m benchmarks.peers.worker NAME THREADS
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import Candidate
from benchmarks.peers.cases import CASES


def prepare(candidate: Candidate, case_name: str) -> Callable[[], tuple[Tensor, ...]]:
    """Solution and gradients of the case, one forward and one backward pass."""
    case = next(case for case in CASES if case.name == case_name)
    layer = candidate.layers[case.kind](case)
    inputs = tuple(tensor.requires_grad_() for tensor in case.inputs())
    cotangent = case.cotangent(layer(*inputs))

    def run() -> tuple[Tensor, ...]:
        y = layer(*inputs)
        return y, *torch.autograd.grad(y, inputs, cotangent)

    return run


class Worker:
    """Answers requests."""

    def __init__(self, name: str, threads: int) -> None:
        self.peer = importlib.import_module(f"benchmarks.peers.with_{name}")
        self.threads = threads
        self.runs: dict[str, Callable[[], tuple[Tensor, ...]]] = {}

    def hello(self) -> dict[str, Any]:
        candidates = self.peer.CANDIDATES
        kinds = {label: sorted(candidate.layers) for label, candidate in candidates.items()}
        return {"versions": self.peer.VERSIONS, "kinds": kinds}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        label = request["candidate"]
        candidate = self.peer.CANDIDATES[label]
        torch.set_num_threads(candidate.threads or self.threads)
        if "case" in request:
            self.runs[label] = prepare(candidate, request["case"])
            found = [tensor.detach().numpy() for tensor in self.runs[label]()]
            np.savez(request["file"], *found)
            return {}
        start = time.perf_counter()
        for _ in range(request["count"]):
            self.runs[label]()
        return {"seconds": (time.perf_counter() - start) / request["count"]}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a solver prints must not be taken for an answer.

    def reply(make: Callable[[], dict[str, Any]]) -> None:
        try:
            message = make()
        except Exception as error:  # It belongs into the table, whatever it is.
            first_line = (str(error).strip().splitlines() or [""])[0]
            message = {"error": f"{type(error).__name__}: {first_line}"}
        print(json.dumps(message), file=answers, flush=True)

    name, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    workers: list[Worker] = []

    def start() -> dict[str, Any]:
        workers.append(Worker(name, threads))
        return workers[0].hello()

    reply(start)
    for line in sys.stdin:
        request = json.loads(line)
        reply(lambda request=request: workers[0].answer(request))


if __name__ == "__main__":
    main()
