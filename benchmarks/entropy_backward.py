"""Backward pass of the generic engine against the three things it cannot do without.

Entropy problem, argmin_y Σ y log y − ⟨W x, y⟩ s.t. 1ᵀy = 1, batch 8, m = 100, n = 10², 10³, 10⁴. One backward
pass is compared with the sum, in the same run, of one vmapped Hessian, one batched symmetric solve of
size 101 and one reverse pass through ∇_y L.

Run:  python -m benchmarks.entropy_backward [--device cuda]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import ddn
from benchmarks.timing import compare, environment, forget_factorizations, peak_extra_bytes

BATCH, M = 8, 100


class Entropy(ddn.DeclarativeNode):
    """The problem without any closed form: solution and gradient from the generic engine."""

    signature = "(n)->(m)"

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.dimensions = {"m": matrix.shape[0]}

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.special.xlogy(y, y).sum() - (self.matrix @ x) @ y

    def equality(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1


def pieces(matrix: Tensor, x: Tensor, y: Tensor, multipliers: Tensor, direction: Tensor):
    """The three necessary operations, written directly in torch."""

    def gradient(x: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        def lagrangian(y: Tensor) -> Tensor:
            value = torch.special.xlogy(y, y).sum() - (matrix @ x) @ y
            return value + multiplier @ (y.sum().unsqueeze(0) - 1)

        return torch.func.grad(lagrangian)(y)

    hessian_of_one = torch.func.jacrev(gradient, argnums=1)

    def hessian() -> Tensor:
        return torch.func.vmap(hessian_of_one)(x, y, multipliers)

    system = torch.zeros(BATCH, M + 1, M + 1, dtype=y.dtype, device=y.device)
    system[:, :M, :M] = hessian()
    system[:, M, :M] = system[:, :M, M] = 1
    right = torch.cat([direction, direction.new_zeros(BATCH, 1)], 1).unsqueeze(-1)

    def solve() -> Tensor:
        factors, pivots = torch.linalg.ldl_factor(system)
        return torch.linalg.ldl_solve(factors, pivots, right)

    def reverse() -> Tensor:
        variable = x.detach().requires_grad_()
        value = torch.func.vmap(gradient)(variable, y, multipliers)
        return torch.autograd.grad(value, variable, direction)[0]

    return {"hessian": hessian, "solve": solve, "reverse": reverse}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    print(environment())
    columns = (
        "n",
        "hessian ms",
        "solve ms",
        "reverse ms",
        "backward ms",
        "ratio",
        "peak/(B(n+m²))",
    )
    print(" ".join(f"{name:>14}" for name in columns))
    for n in (100, 1000, 10_000):
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(M, n, generator=generator, dtype=torch.float64).to(device) / n**0.5
        x = torch.randn(BATCH, n, generator=generator, dtype=torch.float64).to(device)
        cotangent = torch.randn(BATCH, M, generator=generator, dtype=torch.float64).to(device)
        x.requires_grad_()
        solution = Entropy(matrix).solution(x)
        y, multipliers = solution.y.detach(), solution.equality_multipliers.detach()

        def backward(y=solution.y, x=x, cotangent=cotangent):
            forget_factorizations(y)
            return torch.autograd.grad(y, x, cotangent, retain_graph=True)

        parts = pieces(matrix, x.detach(), y, multipliers, cotangent)
        times = compare({**parts, "backward": backward}, repeats=25)
        total = times["hessian"] + times["solve"] + times["reverse"]
        size = BATCH * (n + M * M) * 8
        peak = peak_extra_bytes(backward, device) / size
        milliseconds = [1e3 * times[k] for k in ("hessian", "solve", "reverse", "backward")]
        row = [f"{n:14}", *(f"{t:14.3f}" for t in milliseconds)]
        print(*row, f"{times['backward'] / total:14.2f} {peak:14.1f}", flush=True)


if __name__ == "__main__":
    main()
