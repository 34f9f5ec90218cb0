"""Backward pass of problems whose KKT matrix would not fit into memory, m = 10⁵ variables.

* Denoising: argmin_y ½ ‖y − x‖² + w Σ √((y_{i+1} − y_i)² + ε²), total variation, smoothed. H is
not diagonal, and
  nothing says that it is tridiagonal: conjugate gradients.
* The same split: argmin_(y,z) ½ ‖y − x‖² + w Σ √(z_i² + ε²) s.t. y_{i+1} − y_i = z_i, about as many rows as
  variables: MINRES. The solver knows the multipliers.

Compared with a dense solve at 500 variables.

Run:  python -m benchmarks.matrix_free [--device cuda]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

import ddn
from benchmarks.timing import environment, forget_factorizations, peak_extra_bytes
from ddn.problem import Problem
from ddn.solution import SolverResult, Status

WEIGHT, EPSILON = 0.5, 0.1
SMALL, LARGE = 500, 100_000


def smooth(z: Tensor) -> Tensor:
    """√(z² + ε²)."""
    return (z.square() + EPSILON**2).sqrt()


class Denoising(ddn.DeclarativeNode):
    """Total variation, smoothed."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum() + WEIGHT * smooth(y.diff()).sum()

    def solve(self, x: Tensor) -> Tensor:
        return denoise(x)


class SplitDenoising(ddn.DeclarativeNode):
    """The same with the differences as variables of their own."""

    signature = "(n)->(n),(k)"

    def objective(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum() + WEIGHT * smooth(z).sum()

    def equality(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return y.diff() - z


class SplitSolver:
    """Solution and multipliers of :class:`SplitDenoising`: λ = w z / √(z² + ε²)."""

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        y = denoise(operands[0])
        z = y.diff()
        status = torch.full(y.shape[:-1], int(Status.CONVERGED), device=y.device)
        multipliers = WEIGHT * z / smooth(z)
        return SolverResult(torch.cat([y, z], -1), multipliers, status, torch.zeros_like(status))


def denoise(x: Tensor) -> Tensor:
    """Newton's method for one problem; its matrix is tridiagonal."""
    data = x.detach().cpu().double().numpy()
    y = data.copy()

    def value(y):
        return 0.5 * ((y - data) ** 2).sum() + WEIGHT * np.sqrt(np.diff(y) ** 2 + EPSILON**2).sum()

    for _ in range(100):
        z = np.diff(y)
        root = np.sqrt(z**2 + EPSILON**2)
        force = np.concatenate([[0], WEIGHT * z / root, [0]])
        gradient = y - data - np.diff(force)
        if np.abs(gradient).max() < 1e-13:
            break
        curvature = WEIGHT * EPSILON**2 / root**3
        bands = np.zeros((2, len(y)))
        bands[1] = 1 + np.concatenate([[0], curvature]) + np.concatenate([curvature, [0]])
        bands[0, 1:] = -curvature
        step = -scipy.linalg.solveh_banded(bands, gradient)
        length = 1.0
        while value(y + length * step) > value(y) + 1e-4 * length * (gradient @ step) + 1e-12:
            length /= 2
        y = y + length * step
    return torch.as_tensor(y).to(x)


def make(kind: str, m: int, linear_solver: ddn.kkt.KKTSolver, device: torch.device):
    """A node, its input, its solution and a cotangent."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(m // 50, generator=generator, dtype=torch.float64).repeat_interleave(50)
    x = steps + 0.2 * torch.randn(m, generator=generator, dtype=torch.float64)
    x = x.to(device).requires_grad_()
    cotangent = torch.randn(m, generator=generator, dtype=torch.float64).to(device)
    gradient = ddn.ImplicitGradient(linear_solver=linear_solver)
    if kind == "denoising":
        return x, Denoising(gradient=gradient)(x), cotangent
    node = SplitDenoising(gradient=gradient, solver=SplitSolver())
    node.dimensions = {"k": m - 1}
    return x, node(x)[0], cotangent


def derivative(kind: str, m: int, linear_solver: ddn.kkt.KKTSolver, device: torch.device):
    """∂⟨v, y⟩/∂x."""
    x, y, cotangent = make(kind, m, linear_solver, device)
    return torch.autograd.grad(y, x, cotangent)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    print(environment())
    # Nothing dense, at any size.
    free = ddn.kkt.Automatic(dense_budget=0)
    solvers = {"denoising": ddn.kkt.ProjectedCG(), "split": ddn.kkt.MINRES()}
    print(f"{'problem':>10} {'m':>8} {'solver':>12} {'error':>9} {'seconds':>9} {'peak/m':>8}")
    for kind, named in solvers.items():
        expected = derivative(kind, SMALL, ddn.kkt.Dense(), device)
        for solver in (named, free):
            name = type(solver).__name__
            found = derivative(kind, SMALL, solver, device)
            error = float((found - expected).norm() / expected.norm())
            x, y, cotangent = make(kind, LARGE, solver, device)

            def backward(x=x, y=y, cotangent=cotangent):
                forget_factorizations(y)
                return torch.autograd.grad(y, x, cotangent, retain_graph=True)[0]

            start = time.perf_counter()
            backward()
            seconds = time.perf_counter() - start
            peak = peak_extra_bytes(backward, device) / (8 * LARGE)
            print(
                f"{kind:>10} {LARGE:8} {name:>12} {error:9.1e} {seconds:9.2f} {peak:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
