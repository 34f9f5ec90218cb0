"""qpth; with one thread, too, which suits its small operations better when the machine is busy."""

from __future__ import annotations

from importlib.metadata import version

import torch
from qpth.qp import QPFunction

from benchmarks.peers import Candidate, Layer
from benchmarks.peers.cases import Case

__all__ = ["CANDIDATES", "VERSIONS"]

VERSIONS = f"qpth {version('qpth')}, numpy {version('numpy')}"


def quadratic(case: Case) -> Layer:
    solve = QPFunction(verbose=-1)
    return lambda Q, q, A, b, G, h: solve(Q, q, G, h, A, b)


def simplex(case: Case) -> Layer:
    (n,) = case.sizes
    solve = QPFunction(verbose=-1)
    eye, ones = torch.eye(n, dtype=torch.float64), torch.ones(1, n, dtype=torch.float64)
    return lambda x: solve(eye, -x, -eye, torch.zeros_like(eye[0]), ones, ones[:, 0])


LAYERS = {"quadratic": quadratic, "simplex": simplex}
CANDIDATES = {"qpth": Candidate(LAYERS), "qpth, one thread": Candidate(LAYERS, threads=1)}
