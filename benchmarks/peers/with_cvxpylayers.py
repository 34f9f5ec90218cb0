"""cvxpylayers: at its defaults (SCS), at tight tolerances, and with its Moreau backend."""

from __future__ import annotations

import warnings
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer

from benchmarks.peers import Candidate, Layer
from benchmarks.peers.cases import Case
from benchmarks.peers.cvxpy_problems import PROBLEMS

__all__ = ["CANDIDATES", "VERSIONS"]

# Which of its solvers Moreau has taken, and SCS at its iteration limit: the residuals show both.
warnings.filterwarnings("ignore", category=UserWarning)


def _versions() -> str:
    found = []
    for package in ("cvxpylayers", "diffcp", "scs", "clarabel", "moreau", "cvxpy", "numpy"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


VERSIONS = _versions()


def root_quadratic(case: Case, **options: object) -> Layer:
    """½ ‖R y‖² with Q = RᵀR: the form that is DPP for a cone solver."""
    n, equalities, inequalities = case.sizes
    y, R, q = cp.Variable(n), cp.Parameter((n, n)), cp.Parameter(n)
    A, b = cp.Parameter((equalities, n)), cp.Parameter(equalities)
    G, h = cp.Parameter((inequalities, n)), cp.Parameter(inequalities)
    objective = cp.Minimize(cp.sum_squares(R @ y) / 2 + q @ y)
    problem = cp.Problem(objective, [A @ y == b, G @ y <= h])
    layer = CvxpyLayer(problem, [R, q, A, b, G, h], [y], **options)
    return lambda Q, *rest: layer(torch.linalg.cholesky(Q).mT, *rest)[0]


def quadratic(case: Case, **options: object) -> Layer:
    """½ yᵀQ y as it stands, for a solver of quadratic objectives."""
    n, equalities, inequalities = case.sizes
    y, Q, q = cp.Variable(n), cp.Parameter((n, n), PSD=True), cp.Parameter(n)
    A, b = cp.Parameter((equalities, n)), cp.Parameter(equalities)
    G, h = cp.Parameter((inequalities, n)), cp.Parameter(inequalities)
    objective = cp.Minimize(cp.quad_form(y, Q, assume_PSD=True) / 2 + q @ y)
    problem = cp.Problem(objective, [A @ y == b, G @ y <= h])
    layer = CvxpyLayer(problem, [Q, q, A, b, G, h], [y], **options)
    return lambda *inputs: layer(*inputs)[0]


def stated(case: Case, **options: object) -> Layer:
    """Any other case."""
    problem, parameters, variables = PROBLEMS[case.kind](case)
    layer = CvxpyLayer(problem, parameters, variables, **options)
    return lambda *inputs: layer(*inputs)[0]


def _candidate(of_quadratics: object, **options: object) -> Candidate:
    layers = {kind: partial(stated, **options) for kind in PROBLEMS}
    return Candidate({"quadratic": partial(of_quadratics, **options), **layers})


# Its defaults do not reach residuals of 1e-6. Its gradients are as accurate as its solutions with a dense
# factorization, which is also faster at these sizes.
SCS = {"eps": 1e-9, "max_iters": 100_000, "mode": "dense"}
TOLERANCES = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-12)
CLARABEL = {"solve_method": "CLARABEL", "mode": "dense", **TOLERANCES}

CANDIDATES = {
    "cvxpylayers": _candidate(root_quadratic),
    "cvxpylayers, SCS to 1e-9": _candidate(root_quadratic, solver_args=SCS),
    "cvxpylayers, Clarabel to 1e-12": _candidate(root_quadratic, solver_args=CLARABEL),
    "cvxpylayers, Moreau": _candidate(quadratic, solver="MOREAU"),
}
