"""How well a solution satisfies its problem, and how far gradients are from finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from scipy import optimize, sparse

from benchmarks.peers.cases import Case

__all__ = ["Reference"]

Array = np.ndarray
Solver = Callable[..., Array]
ELEMENTS, ENTRIES = 3, 6


class Reference:
    """An independent solver of one case, to high accuracy, and finite differences of its solutions.

    Args:
        case: the problems.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.inputs = [tensor.numpy() for tensor in case.inputs()]
        # Quadratic programs are solved to rounding, and their solutions are smooth only in between kinks.
        self.step = 1e-4 if case.kind in ("quadratic", "simplex") else 1e-3
        self._differences: list[tuple[int, int, tuple[int, ...], float]] | None = None
        self._solutions: Array | None = None

    def residual(self, y: Array) -> float:
        """Largest residual of the optimality conditions; with cones, distance from an accurate solution."""
        problems = zip(*self.inputs, strict=True)
        if self.case.kind in ("quadratic", "simplex"):
            stated = map(as_quadratic, problems)
            return max(kkt_residual(*each, y[i]) for i, each in enumerate(stated))
        if self.case.kind == "entropy":
            force = np.log(np.maximum(y, 1e-300)) + 1 - self.inputs[0]
            return float(max(np.ptp(force, axis=-1).max() / 2, abs(y.sum(-1) - 1).max()))
        if self._solutions is None:
            solve = SOLVERS[self.case.kind]
            self._solutions = np.stack([solve(*inputs) for inputs in problems])
        return float(abs(y - self._solutions).max())

    def gradient_error(self, gradients: Sequence[Array]) -> float:
        """Largest error of some entries, relative to the largest entry of the gradient by the same input."""
        if self._differences is None:
            self._differences = list(self._finite_differences())
        sizes = [float(abs(gradient).max()) for gradient in gradients]
        return max(
            abs(self._entry(gradients[position][element], position, entry) - exact)
            / sizes[position]
            for element, position, entry, exact in self._differences
        )

    def _finite_differences(self) -> Iterator[tuple[int, int, tuple[int, ...], float]]:
        solve, random = SOLVERS[self.case.kind], np.random.default_rng(0)
        for element in sorted({0, self.case.batch // 2, self.case.batch - 1})[:ELEMENTS]:
            inputs = [array[element] for array in self.inputs]
            cotangent = self._cotangent(solve(*inputs).shape)[element]
            for position, array in enumerate(inputs):
                chosen = random.choice(array.size, min(ENTRIES, array.size), replace=False)
                for entry in map(tuple, np.transpose(np.unravel_index(chosen, array.shape))):
                    moved = self._along(inputs, position, entry)
                    loss = partial(along, solve, moved, cotangent)
                    coarse, fine = derivative(loss, self.step), derivative(loss, self.step / 2)
                    # Beside a kink, where the active set changes, they differ.
                    if abs(coarse - fine) < 1e-5 * (1e-2 + abs(fine)):
                        yield element, position, entry, fine

    def _cotangent(self, shape: tuple[int, ...]) -> Array:
        import torch

        return self.case.cotangent(torch.empty(self.case.batch, *shape)).numpy()

    def _symmetric(self, position: int) -> bool:
        """Whether the input is a symmetric matrix: it then moves together with its mirror image."""
        return position == 0 and self.case.kind in ("quadratic", "semidefinite")

    def _entry(self, gradient: Array, position: int, entry: tuple[int, ...]) -> float:
        mirrored = self._symmetric(position) and entry != entry[::-1]
        return float(gradient[entry] + (gradient[entry[::-1]] if mirrored else 0))

    def _along(
        self, inputs: list[Array], position: int, entry: tuple[int, ...]
    ) -> Callable[[float], list[Array]]:
        def moved(step: float) -> list[Array]:
            array = inputs[position].copy()
            array[entry] += step
            if self._symmetric(position) and entry != entry[::-1]:
                array[entry[::-1]] += step
            return [*inputs[:position], array, *inputs[position + 1 :]]

        return moved


def along(
    solve: Solver, moved: Callable[[float], list[Array]], cotangent: Array, t: float
) -> float:
    return float((cotangent * solve(*moved(t))).sum())


def derivative(function: Callable[[float], float], step: float) -> float:
    """Central difference of sixth order."""
    weights = {1: 45, 2: -9, 3: 1}
    terms = (w * (function(k * step) - function(-k * step)) for k, w in weights.items())
    return sum(terms) / (60 * step)


def as_quadratic(inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Q, q, A, b, G, h."""
    if len(inputs) == 6:
        return tuple(inputs)
    n = len(inputs[0])
    return np.eye(n), -inputs[0], np.ones((1, n)), np.ones(1), -np.eye(n), np.zeros(n)


def kkt_residual(Q: Array, q: Array, A: Array, b: Array, G: Array, h: Array, y: Array) -> float:
    """Largest entry of the residual, with the multipliers that suit y best.

    λ is left out by a projection onto the null space of A; what is left, of ∇f + Gᵀν = 0 and s ν = 0, is a
    least-squares problem in ν ≥ 0.
    """
    if not np.isfinite(y).all():
        return np.inf
    range_of_A = np.linalg.qr(A.T)[0]
    projection = np.eye(len(y)) - range_of_A @ range_of_A.T
    slack = h - G @ y
    matrix = np.concatenate([projection @ G.T, np.diag(slack)])
    right = np.concatenate([-projection @ (Q @ y + q), np.zeros(len(h))])
    multipliers, _ = optimize.nnls(matrix, right)
    feasibility = np.concatenate([A @ y - b, np.minimum(slack, 0)])
    return float(max(abs(matrix @ multipliers - right).max(), abs(feasibility).max()))


def solve_quadratic(Q: Array, q: Array, A: Array, b: Array, G: Array, h: Array) -> Array:
    """Active set from an interior-point solver, then the linear system of its conditions."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
    rows = sparse.csc_matrix(np.concatenate([A, G]))
    quadratic = sparse.csc_matrix(np.triu(Q))
    problem = (quadratic, q, rows, np.concatenate([b, h]), cones, settings)
    found = clarabel.DefaultSolver(*problem).solve()
    active = np.array(found.z)[len(b) :] > np.array(found.s)[len(b) :]
    rows = np.concatenate([A, G[active]])
    n, count = len(q), len(rows)
    matrix = np.block([[Q, rows.T], [rows, np.zeros((count, count))]])
    solution = np.linalg.solve(matrix, np.concatenate([-q, b, h[active]]))
    y, multipliers = solution[:n], solution[n + len(b) :]
    if not ((multipliers >= 0).all() and (G @ y <= h + 1e-12).all()):
        raise ArithmeticError("the active set of the reference is not optimal")
    return y


def solve_entropy(x: Array) -> Array:
    """The softmax."""
    y = np.exp(x - x.max())
    return y / y.sum()


def solve_second_order_cone(F: Array, g: Array, radius: float = 0.25) -> Array:
    """(FᵀF + μ 1)⁻¹ Fᵀg with the μ ≥ 0 that leads to the sphere, if the bound is active."""
    values, vectors = np.linalg.eigh(F.T @ F)
    right = vectors.T @ (F.T @ g)

    def excess(mu: float) -> float:
        return 1 / radius - 1 / float(np.linalg.norm(right / (values + mu)))

    mu = 0.0
    if excess(0.0) > 0:
        mu = optimize.brentq(excess, 0.0, np.linalg.norm(right) / radius, xtol=1e-15, rtol=1e-15)
    return vectors @ (right / (values + mu))


def solve_semidefinite(C: Array) -> Array:
    """Newton's method on the dual: (C + Diag u)₊ has ones on its diagonal (Qi and Sun 2006)."""
    u = 1 - np.diag(C)
    for _ in range(50):
        values, V = np.linalg.eigh(C + np.diag(u))
        positive = np.maximum(values, 0)
        Y = (V * positive) @ V.T
        gaps = values[:, None] - values
        slopes = np.where(values > 0, 1.0, 0.0)
        equal = abs(gaps) < 1e-12
        ratios = (positive[:, None] - positive) / np.where(equal, 1.0, gaps)
        ratios = np.where(equal, slopes[:, None], ratios)
        # d diag Y / du, entry (i, j): Σ_kl V_ik V_jk r_kl V_jl V_il
        jacobian = np.einsum("ik,jk,kl,jl,il->ij", V, V, ratios, V, V)
        residual = np.diag(Y) - 1
        if abs(residual).max() < 1e-14:
            break
        u = u - np.linalg.solve(jacobian, residual)
    return Y


def solve_exponential_cone(F: Array, g: Array) -> Array:
    """Newton's method."""
    y = np.zeros(F.shape[1])
    for _ in range(50):
        weights = solve_entropy(F @ y + g)
        mean = F.T @ weights
        hessian = (F.T * weights) @ F - np.outer(mean, mean) + np.eye(len(y))
        y = y - np.linalg.solve(hessian, mean + y)
    return y


SOLVERS: dict[str, Solver] = {
    "quadratic": solve_quadratic,
    "simplex": lambda x: solve_quadratic(*as_quadratic([x])),
    "entropy": solve_entropy,
    "second_order_cone": solve_second_order_cone,
    "semidefinite": solve_semidefinite,
    "exponential_cone": solve_exponential_cone,
}
