"""What the gradients cost, and how far they are from the exact one.

Quadratic problem on a plane, argmin ½ yᵀQ y − xᵀy s.t. Σ y = 1, with eigenvalues of Q between 1/c and 1: the
exact derivative is known in closed form. The forward pass includes the solution (in closed form) and its
verification, the backward pass starts afresh; the error is relative to the closed form, and the cosine is
that of the angle between the two gradients. Memory is that of both passes.

Before that, linear solvers for the exact gradient of one problem, with neighbours that are coupled or with
variables that are not.

Run:  python -m benchmarks.gradients [--device cuda]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import ddn
from benchmarks.timing import compare, environment, forget_factorizations, peak_extra_bytes

BATCH = 8


class OnPlane(ddn.DeclarativeNode):
    """argmin_y  ½ yᵀQ y − xᵀy   subject to   Σ y_i = 1, solved in closed form."""

    signature = "(n),(n,n)->(n)"

    def objective(self, x: Tensor, Q: Tensor, y: Tensor) -> Tensor:
        return 0.5 * y @ Q @ y - x @ y

    def equality(self, x: Tensor, Q: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1

    def solve(self, x: Tensor, Q: Tensor) -> Tensor:
        return closed_form(x, Q)


def closed_form(x: Tensor, Q: Tensor) -> Tensor:
    """Q⁻¹(x − λ 1) with λ such that the sum is one."""
    factor = torch.linalg.cholesky(Q)
    columns = torch.stack([x, torch.ones_like(x)], -1)
    first, ones = torch.cholesky_solve(columns, factor).unbind(-1)
    multiplier = (first.sum(-1, keepdim=True) - 1) / ones.sum(-1, keepdim=True)
    return first - multiplier * ones


class Chain(ddn.DeclarativeNode):
    """argmin_y  ½ ‖y − x‖² + ½ w Σ (y_i+1 − y_i)²   subject to   Σ y_i = 1, by a factorization made before.

    Args:
        size: number of variables.
        coupling: w; zero for a separable problem.
    """

    signature = "(n)->(n)"

    def __init__(self, size: int, coupling: float, **options: Any) -> None:
        super().__init__(**options)
        self.coupling = coupling
        difference = torch.eye(size, dtype=torch.float64).diff(dim=0)
        self.matrix = torch.eye(size, dtype=torch.float64) + coupling * difference.mT @ difference

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - x).square().sum() + 0.5 * self.coupling * y.diff().square().sum()

    def equality(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1

    def solve(self, x: Tensor) -> Tensor:
        return closed_form(x, self.matrix.to(x.device))


def example(size: int, condition: float, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """x and Q with a given condition number, and a cotangent."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    basis = torch.linalg.qr(normal(size, size)).Q
    spectrum = torch.logspace(-math.log10(condition), 0, size, dtype=torch.float64)
    x, Q = normal(BATCH, size), (basis * spectrum) @ basis.mT
    return x.to(device).requires_grad_(), Q.to(device), normal(BATCH, size).to(device)


def compare_gradients(device: str) -> None:
    """Exact and approximate gradients of one dense problem."""
    gradients = {
        "ImplicitGradient()": ddn.ImplicitGradient(),
        "UnconstrainedGradient()": ddn.UnconstrainedGradient(),
        "OneStepGradient()": ddn.OneStepGradient(),
        "UnrolledGradient(steps=10)": ddn.UnrolledGradient(steps=10),
        "UnrolledGradient(steps=100)": ddn.UnrolledGradient(steps=100),
    }
    columns = ("forward ms", "backward ms", "peak MB", "error", "cosine")
    for size, condition in ((100, 10.0), (100, 1000.0), (1000, 10.0)):
        x, Q, cotangent = example(size, condition, device)
        (exact,) = torch.autograd.grad(closed_form(x, Q), x, cotangent)
        print(f"batch {BATCH}, n = {size}, condition {condition:g}")
        print(f"{'':28}" + " ".join(f"{name:>12}" for name in columns))
        forward, backward, found = {}, {}, {}
        for name, gradient in gradients.items():
            node = OnPlane(gradient=gradient)
            y = node(x, Q)

            def once(y=y, x=x, cotangent=cotangent, keeps=hasattr(gradient, "linear_solver")):
                if keeps:
                    forget_factorizations(y)
                return torch.autograd.grad(y, x, cotangent, retain_graph=True)[0]

            forward[name], backward[name] = partial(node, x, Q), once
            found[name] = once()
        times = compare(forward, repeats=7), compare(backward, repeats=7)
        for name in gradients:
            error = difference(found[name], exact)
            cosine = float((found[name] * exact).sum() / found[name].norm() / exact.norm())
            peak = peak_extra_bytes(partial(both, forward[name], x, cotangent), x.device) / 2**20
            row = f"{1e3 * times[0][name]:12.2f} {1e3 * times[1][name]:12.2f} {peak:12.1f}"
            print(f"{name:28}{row} {error:12.1e} {cosine:12.4f}", flush=True)


def compare_linear_solvers(device: str) -> None:
    """Backward passes of one problem with each linear solver."""
    solvers = {
        "Automatic()": ddn.kkt.Automatic(),
        "Dense()": ddn.kkt.Dense(),
        "SchurComplement()": ddn.kkt.SchurComplement(),
        "BlockDiagonal()": ddn.kkt.BlockDiagonal(),
        "ProjectedCG()": ddn.kkt.ProjectedCG(),
        "MINRES()": ddn.kkt.MINRES(),
    }
    columns = ("backward ms", "peak MB", "error")
    for size, coupling in ((200, 10.0), (2000, 10.0), (2000, 0.0)):
        generator = torch.Generator().manual_seed(0)
        x, cotangent = torch.randn(2, size, generator=generator, dtype=torch.float64).to(device)
        x.requires_grad_()
        node = Chain(size, coupling)
        (exact,) = torch.autograd.grad(node.solve(x), x, cotangent)
        print(f"n = {size}, {'neighbours coupled' if coupling else 'separable'}")
        print(f"{'':28}" + " ".join(f"{name:>12}" for name in columns))
        backward = {}
        for name, solver in solvers.items():
            if coupling and "Block" in name:
                continue
            node.gradient = ddn.ImplicitGradient(linear_solver=solver)
            y = node(x)

            def once(y=y, x=x, cotangent=cotangent):
                forget_factorizations(y)
                return torch.autograd.grad(y, x, cotangent, retain_graph=True)[0]

            backward[name] = once
        times = compare(backward, repeats=7)
        for name, call in backward.items():
            peak = peak_extra_bytes(call, x.device) / 2**20
            row = f"{1e3 * times[name]:12.2f} {peak:12.1f} {difference(call(), exact):12.1e}"
            print(f"{name:28}{row}", flush=True)


def difference(found: Tensor, exact: Tensor) -> float:
    """Relative error."""
    return float((found - exact).norm() / exact.norm())


def both(solve: Callable[[], Tensor], x: Tensor, cotangent: Tensor) -> Tensor:
    """Solution and gradient."""
    return torch.autograd.grad(solve(), x, cotangent)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    print(environment())
    compare_linear_solvers(device)
    compare_gradients(device)


if __name__ == "__main__":
    main()
