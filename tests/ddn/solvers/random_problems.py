"""Random problems of many kinds, sizes, units and batch shapes, and a judge independent of the library.

Every problem is a case of

    argmin_y  s_f F(z)   s.t.   s_h (A z − b) = 0 (or s_h (‖z‖² − b₁) = 0),  s_g (G z − h) ≤ 0,  l ≤ z ≤ u,
    F(z) = ½ zᵀQ z + qᵀz + ¼ Σ a_i z_i⁴,   z = y / s_y ,

with the units s_f, s_y, s_h and s_g drawn from 1e-6…1e6 for every element of a batch. All derivatives
have closed formulas, so that the conditions of a minimum are recomputed in NumPy and float64, in the units of
z: see :mod:`tests.ddn.solvers.minimum_conditions`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import ddn
from ddn import Status
from ddn.solution import SolverResult
from tests.ddn.solvers.minimum_conditions import satisfies_conditions

__all__ = ["KINDS", "Draw", "Tally", "draw", "tally"]

# Relative error of a condition that makes a claimed solution wrong.
LIMITS = {torch.float64: 1e-6, torch.float32: 2.5e-3}
BATCHES = ((), (3,), (2, 4), (32,), (1, 20), (4, 1, 6))
# Chance of an element that has no solution.
_HOPELESS = 0.02


@dataclass(frozen=True)
class Kind:
    """What the problems of a draw have.

    Attributes:
        convex: Q ⪰ 0; else its eigenvalues have both signs.
        quartic: a > 0.
        equality: "", "linear" or "sphere".
        inequality: whether G z ≤ h is stated.
        bounded: whether bounds are.
    """

    convex: bool
    quartic: bool
    equality: str = ""
    inequality: bool = False
    bounded: bool = False

    @property
    def is_constrained(self) -> bool:
        """Whether it has constraints of any sort."""
        return bool(self.equality) or self.inequality or self.bounded


KINDS = {
    "LBFGS": (
        Kind(convex=True, quartic=False),
        Kind(convex=True, quartic=True),
        Kind(convex=False, quartic=True),
        Kind(convex=True, quartic=False, bounded=True),
        Kind(convex=False, quartic=True, bounded=True),
    ),
    "Newton": (
        Kind(convex=True, quartic=False),
        Kind(convex=False, quartic=True),
        Kind(convex=True, quartic=False, equality="linear"),
        Kind(convex=False, quartic=True, equality="linear"),
        Kind(convex=False, quartic=False, equality="sphere"),
        Kind(convex=False, quartic=True, equality="sphere"),
    ),
    "InteriorPoint": (
        Kind(convex=True, quartic=False, inequality=True),
        Kind(convex=True, quartic=False, equality="linear", inequality=True),
        Kind(convex=True, quartic=False, equality="linear", inequality=True, bounded=True),
        Kind(convex=True, quartic=True, inequality=True),
        Kind(convex=True, quartic=True, equality="linear", bounded=True),
    ),
}


class _Node(ddn.DeclarativeNode):
    """The problem; constraints are added by :func:`_node`."""

    signature = "(n,n),(n),(n),(),(),(p,n),(p),(),(r,n),(r),(),(n),(n)->(n)"

    def objective(self, Q, q, a, f, s, A, b, sh, G, h, sg, lo, up, y):
        z = y / s
        return f * (0.5 * z @ Q @ z + q @ z + 0.25 * (a * z**4).sum())


def _linear(self, Q, q, a, f, s, A, b, sh, G, h, sg, lo, up, y):
    return sh * (A @ (y / s) - b)


def _sphere(self, Q, q, a, f, s, A, b, sh, G, h, sg, lo, up, y):
    return sh * ((y / s).square().sum() - b[0])


def _inequality(self, Q, q, a, f, s, A, b, sh, G, h, sg, lo, up, y):
    return sg * (G @ (y / s) - h)


def _bounds(self, Q, q, a, f, s, A, b, sh, G, h, sg, lo, up):
    return lo * s, up * s


def _node(kind: Kind, solver: Any) -> ddn.DeclarativeNode:
    members: dict[str, Any] = {}
    if kind.equality:
        members["equality"] = _linear if kind.equality == "linear" else _sphere
    if kind.inequality:
        members["inequality"] = _inequality
    if kind.bounded:
        members["bounds"] = _bounds
    return type("RandomProblem", (_Node,), members)(solver=solver, on_failure="nan")


@dataclass(frozen=True)
class Draw:
    """A batch of problems.

    Attributes:
        kind: what they have.
        data: operands by name, NumPy arrays ``(*batch, *core)`` in float64.
        dtype: in which they are to be solved.
        feasible: where a feasible point exists, ``(*batch,)``.
        bounded: where the objective is known to be bounded below on the feasible set.
    """

    kind: Kind
    data: dict[str, np.ndarray]
    dtype: torch.dtype
    feasible: np.ndarray
    bounded: np.ndarray

    def solve(self, solver: Any) -> tuple[SolverResult, ddn.Solution]:
        """What the solver claims, and what the node makes of it."""
        recorder = _Recorder(solver)
        inputs = [torch.from_numpy(value).to(self.dtype) for value in self.data.values()]
        with torch.no_grad():
            solution = _node(self.kind, recorder).solution(*inputs)
        return recorder.results[-1], solution

    def is_minimum(self, result: SolverResult) -> np.ndarray:
        """Whether y and the multipliers of the solver satisfy the conditions of a minimum, ``(*batch,)``."""
        y = result.y.double().numpy()
        mu = np.zeros((*y.shape[:-1], 0))
        if result.multipliers is not None:
            mu = result.multipliers.double().numpy()
        found = np.zeros(y.shape[:-1], dtype=bool)
        for index in np.ndindex(found.shape):
            data = {name: value[index] for name, value in self.data.items()}
            # The problem that was solved is the one with rounded data.
            data = {
                n: torch.from_numpy(np.asarray(v)).to(self.dtype).double().numpy()
                for n, v in data.items()
            }
            found[index] = satisfies_conditions(
                self.kind, data, y[index], mu[index], LIMITS[self.dtype]
            )
        return found


@dataclass
class _Recorder:
    """Keeps what a solver returns: the node verifies it, and may think otherwise."""

    solver: Any
    results: list[SolverResult] = field(default_factory=list)

    def solve(self, problem, operands, warm_start=None):
        self.results.append(self.solver.solve(problem, operands))
        return self.results[-1]


def draw(generator: np.random.Generator, kind: Kind) -> Draw:
    """A batch of problems of one kind; most have a solution, a few do not."""
    batch = BATCHES[generator.integers(len(BATCHES))]
    n = int(generator.integers(1, 13))
    p = int(generator.integers(1, n + 1)) if kind.equality == "linear" else 1
    r = int(generator.integers(1, 9))

    def normal(*shape):
        return generator.standard_normal((*batch, *shape))

    def units():
        return 10.0 ** generator.uniform(-6, 6, batch)

    basis = np.linalg.qr(normal(n, n))[0]
    low = 10.0 ** -generator.uniform(0, 3, (*batch, 1))
    spectrum = low ** generator.uniform(0, 1, (*batch, n))
    if not kind.convex:
        spectrum = spectrum * np.where(generator.random((*batch, n)) < 0.5, -1, 1)
    Q = (basis * spectrum[..., None, :]) @ basis.swapaxes(-1, -2)
    # Linear and partly linear objectives, where bounds keep these finite.
    flat = generator.random(batch) < (0.3 if kind.bounded and kind.convex else 0)
    Q = np.where(flat[..., None, None], 0, (Q + Q.swapaxes(-1, -2)) / 2)
    a = np.abs(normal(n)) + 0.01 if kind.quartic else np.zeros((*batch, n))
    center = normal(n)
    A, G = normal(p, n), normal(r, n)
    b = (A @ center[..., None])[..., 0]
    if kind.equality == "sphere":
        b[..., 0] = (center**2).sum(-1)
    slack = np.where(generator.random((*batch, r)) < 0.3, 0, generator.exponential(1, (*batch, r)))
    h = (G @ center[..., None])[..., 0] + slack
    lower = center - np.where(
        generator.random((*batch, n)) < 0.3, 0, generator.exponential(1, (*batch, n))
    )
    upper = center + np.where(
        generator.random((*batch, n)) < 0.2, 0, generator.exponential(1, (*batch, n))
    )
    if not bool(flat.any()):
        lower = np.where(generator.random((*batch, n)) < 0.2, -np.inf, lower)
        upper = np.where(generator.random((*batch, n)) < 0.2, np.inf, upper)
    q = normal(n)
    feasible = np.ones(batch, dtype=bool)
    hopeless = generator.random(batch) < _HOPELESS
    q[..., 0] = np.where(hopeless, np.nan, q[..., 0])
    impossible = generator.random(batch) < _HOPELESS
    if kind.bounded:
        crossed = lower[..., 0] + np.where(np.isfinite(lower[..., 0]), -0.5, np.nan)
        crossed = np.where(impossible & np.isfinite(crossed), crossed, upper[..., 0])
        feasible = feasible & (crossed >= lower[..., 0])
        upper[..., 0] = crossed
    elif kind.inequality and r > 1:
        G[..., 1, :] = np.where(impossible[..., None], -G[..., 0, :], G[..., 1, :])
        h[..., 1] = np.where(impossible, -h[..., 0] - 0.5, h[..., 1])
        feasible = feasible & ~impossible
    elif kind.equality == "linear" and p > 1:
        A[..., 1, :] = np.where(impossible[..., None], A[..., 0, :], A[..., 1, :])
        b[..., 1] = np.where(impossible, b[..., 0] + 0.5, b[..., 1])
        feasible = feasible & ~impossible
    elif not kind.is_constrained and not kind.quartic:
        # A direction of negative curvature, along which f has no minimum.
        Q = np.where(impossible[..., None, None], -Q, Q)
    bounded = np.broadcast_to(feasible & ~hopeless, batch)
    if not (kind.is_constrained or kind.quartic):
        bounded = bounded & ~impossible
    data = {
        "Q": Q, "q": q, "a": a, "f": units(), "s": units(), "A": A, "b": b, "sh": units(),
        "G": G, "h": h, "sg": units(), "lo": lower, "up": upper,
    }  # fmt: skip
    dtype = torch.float32 if generator.random() < 0.25 else torch.float64
    return Draw(kind, {k: np.asarray(v) for k, v in data.items()}, dtype, feasible, bounded)


@dataclass
class Tally:
    """What came of many problems.

    Attributes:
        statuses: how often the solver claimed what.
        verified: how often the node said what of it.
        by_units: statuses by the decade pairs of the units of y and f.
        wrong: claimed solutions that are none, with what is needed to see them again.
        failed: solvable problems without a solution, likewise.
        misnamed: feasible problems called infeasible, bounded ones called unbounded.
    """

    statuses: Counter = field(default_factory=Counter)
    verified: Counter = field(default_factory=Counter)
    by_units: dict[str, Counter] = field(default_factory=dict)
    wrong: list = field(default_factory=list)
    failed: list = field(default_factory=list)
    misnamed: list = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of problems."""
        return self.statuses.total()


def tally(name: str, solver: Any, count: int, seed: int = 0) -> Tally:
    """Solve at least ``count`` random problems, of the kinds that are meant for a solver."""
    result, number = Tally(), 0
    while result.count < count:
        generator = np.random.default_rng([seed, number])
        kind = KINDS[name][number % len(KINDS[name])]
        problems = draw(generator, kind)
        claimed, solution = problems.solve(solver)
        is_minimum = problems.is_minimum(claimed)
        for index in np.ndindex(is_minimum.shape):
            status = Status(int(claimed.status[index]))
            result.statuses[status.name] += 1
            result.verified[Status(int(solution.status[index])).name] += 1
            where = (number, index, status.name, kind, str(problems.dtype))
            units = [round(float(np.log10(problems.data[key][index])) / 4) * 4 for key in "sf"]
            result.by_units.setdefault(f"y {units[0]:+d} f {units[1]:+d}", Counter())[
                status.name
            ] += 1
            if status == Status.CONVERGED and not is_minimum[index]:
                result.wrong.append(where)
            elif (
                status != Status.CONVERGED and problems.feasible[index] and problems.bounded[index]
            ):
                result.failed.append(where)
            if (status == Status.INFEASIBLE and problems.feasible[index]) or (
                status == Status.UNBOUNDED and problems.bounded[index]
            ):
                result.misnamed.append(where)
        number += 1
    return result
