"""This package. ``ddn`` is what the others are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ddn
from benchmarks.peers import Candidate, Layer
from benchmarks.peers.cases import Case

__all__ = ["CANDIDATES", "VERSIONS"]

VERSIONS = f"torch {torch.__version__}"


class Entropy(ddn.DeclarativeNode):
    """argmin Σ y log y − xᵀy  s.t.  Σ y = 1, with the default solver and gradient."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return (y * y.log()).sum() - x @ y

    def equality(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1

    def starting_point(self, x: Tensor) -> Tensor:
        return torch.full_like(x, 1 / x.shape[-1])


def quadratic_layers(**options: Any) -> dict[str, Callable[[Case], Layer]]:
    def quadratic(case: Case) -> Layer:
        return ddn.nodes.QuadraticProgram(**options)

    def simplex(case: Case) -> Layer:
        (n,) = case.sizes
        node = ddn.nodes.QuadraticProgram(**options)
        eye, ones = torch.eye(n, dtype=torch.float64), torch.ones(1, n, dtype=torch.float64)
        return lambda x: node(eye, -x, ones, ones[:, 0], lower=torch.zeros_like(eye[0]))

    return {"quadratic": quadratic, "simplex": simplex}


def entropy(case: Case) -> Layer:
    return ddn.nodes.EntropicSimplexProjection()


def stated_entropy(case: Case) -> Layer:
    return Entropy()


def conic(case: Case) -> Layer:
    from benchmarks.peers.cvxpy_problems import PROBLEMS

    node = ddn.CvxpyNode(*PROBLEMS[case.kind](case))

    def solve(*inputs: Tensor) -> Tensor:
        y = node(*inputs)
        return y if isinstance(y, Tensor) else y[0]

    return solve


CONES = dict.fromkeys(("second_order_cone", "semidefinite", "exponential_cone"), conic)
INTERIOR = quadratic_layers(solver=ddn.solvers.InteriorPoint())

CANDIDATES = {
    "ddn": Candidate({**quadratic_layers(), "entropy": entropy, **CONES}),
    "ddn, one thread": Candidate({**quadratic_layers(), "entropy": entropy, **CONES}, threads=1),
    "ddn, InteriorPoint": Candidate(INTERIOR),
    "ddn, InteriorPoint, one thread": Candidate(INTERIOR, threads=1),
    "ddn, stated, by Newton": Candidate({"entropy": stated_entropy}),
    "ddn, CvxpyNode": Candidate(dict.fromkeys(("simplex", "entropy"), conic)),
}
