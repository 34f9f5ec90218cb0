"""Backward pass of the generic engine against the classical way with a dense mixed Hessian.

Entropy problem, argmin_y Σ y log y − ⟨W x, y⟩ s.t. 1ᵀy = 1, batch 8, m = 100, n = 10², 10³, 10⁴ and
10⁵. The classical way (Gould, Hartley and Campbell 2021, Prop. 4.6) builds H = ∂²L/∂y² and
B = ∂²L/∂y∂x by m reverse passes each, row by row for the whole batch, and pulls a cotangent v back as

    x̄ = Bᵀ w,        w = H⁻¹Aᵀ (A H⁻¹ Aᵀ)⁻¹ A H⁻¹ v − H⁻¹ v .

It is written with batched functions and without any check, for this problem only. The engine maps
functions of one problem, finds out that H is diagonal, and measures the residual of its linear system.
Its backward pass starts from what the forward pass has evaluated to verify the solution; the column
"from y" is a pass that starts from the solution alone, as it does with inequalities.

Run:  python -m benchmarks.mixed_hessian [--device cuda]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.entropy_backward import BATCH, Entropy, M
from benchmarks.timing import compare, environment, forget_factorizations, peak_extra_bytes


def classical(matrix: Tensor, x: Tensor, y: Tensor, multipliers: Tensor, cotangent: Tensor):
    """Gradient of x, with H and B in full."""
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    with torch.enable_grad():
        value = torch.special.xlogy(y, y).sum() - ((x @ matrix.mT) * y).sum()
        constraint = y.sum(-1) - 1
        lagrangian = value + (multipliers.squeeze(-1) * constraint).sum()
        (first,) = torch.autograd.grad(lagrangian, y, create_graph=True)
        (jacobian,) = torch.autograd.grad(constraint.sum(), y, create_graph=True)
        hessian = torch.stack(
            [torch.autograd.grad(first[:, i].sum(), y, retain_graph=True)[0] for i in range(M)], 1
        )
        mixed = torch.stack(
            [torch.autograd.grad(first[:, i].sum(), x, retain_graph=True)[0] for i in range(M)], 1
        )
    a = jacobian.detach().unsqueeze(-1)
    factor = torch.linalg.cholesky(hessian)
    solved = torch.cholesky_solve(torch.cat([cotangent.unsqueeze(-1), a], -1), factor)
    inverse_v, inverse_a = solved[..., :1], solved[..., 1:]
    schur = a.mT @ inverse_a
    w = inverse_a @ ((a.mT @ inverse_v) / schur) - inverse_v
    return (w.mT @ mixed).squeeze(-2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    print(environment())
    columns = (
        "n",
        "engine ms",
        "from y ms",
        "classical ms",
        "ratio",
        "from y",
        "engine MB",
        "classical MB",
        "memory",
    )
    print(" ".join(f"{name:>12}" for name in columns))
    for n in (100, 1000, 10_000, 100_000):
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(M, n, generator=generator, dtype=torch.float64).to(device) / n**0.5
        x = torch.randn(BATCH, n, generator=generator, dtype=torch.float64).to(device)
        cotangent = torch.randn(BATCH, M, generator=generator, dtype=torch.float64).to(device)
        x.requires_grad_()
        solution = Entropy(matrix).solution(x)
        y, multipliers = solution.y.detach(), solution.equality_multipliers.detach()

        def engine(y=solution.y, x=x, cotangent=cotangent):
            forget_factorizations(y)
            return torch.autograd.grad(y, x, cotangent, retain_graph=True)[0]

        def scratch(y=solution.y, x=x, cotangent=cotangent):
            forget_factorizations(y, everything=True)
            return torch.autograd.grad(y, x, cotangent, retain_graph=True)[0]

        def peer(point=(matrix, x, y, multipliers, cotangent)):
            return classical(*point)

        torch.testing.assert_close(engine(), peer(), rtol=1e-8, atol=1e-8)
        # In this order: after "scratch" the forward pass has left nothing.
        times = compare({"engine": engine, "classical": peer}, repeats=15 if n < 10_000 else 7)
        both = compare({"scratch": scratch, "classical": peer}, repeats=15 if n < 10_000 else 7)
        memory = peak_extra_bytes(engine, device), peak_extra_bytes(peer, device)
        print(
            f"{n:12} {1e3 * times['engine']:12.2f} {1e3 * both['scratch']:12.2f} "
            f"{1e3 * times['classical']:12.2f} {times['classical'] / times['engine']:12.1f} "
            f"{both['classical'] / both['scratch']:12.1f} {memory[0] / 1e6:12.1f} "
            f"{memory[1] / 1e6:12.1f} {memory[1] / max(memory[0], 1):12.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
