"""Backward pass of a separable problem: time and memory linear in the number of variables.

Entropy problem, argmin_y Σ y log y − ⟨x, y⟩ s.t. 1ᵀy = 1, whose solution is softmax(x): the Hessian is
diagonal, one row couples the variables. The engine does not know that; it finds out. Each backward pass
linearizes, probes and factorizes anew. Compared with forward and backward of one softmax of the same size.

Run:  python -m benchmarks.separable [--device cuda]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import ddn
from benchmarks.timing import compare, environment, forget_factorizations, peak_extra_bytes

SIZES = (10_000, 100_000, 1_000_000)


class Entropy(ddn.DeclarativeNode):
    """The problem with its known solution, and no word of its structure."""

    signature = "(n)->(n)"

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        return (y * y.log()).sum() - x @ y

    def equality(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1

    def solve(self, x: Tensor) -> Tensor:
        return torch.softmax(x, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    print(environment())
    columns = ("m", "softmax ms", "backward ms", "ratio", "growth", "peak/m", "error")
    print(" ".join(f"{name:>12}" for name in columns))
    first = None
    for m in SIZES:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(m, generator=generator, dtype=torch.float64).to(device).requires_grad_()
        cotangent = torch.randn(m, generator=generator, dtype=torch.float64).to(device)
        y = Entropy()(x)

        def backward(y=y, x=x, cotangent=cotangent):
            forget_factorizations(y)
            return torch.autograd.grad(y, x, cotangent, retain_graph=True)[0]

        def softmax(x=x, cotangent=cotangent):
            return torch.autograd.grad(torch.softmax(x, -1), x, cotangent)[0]

        expected = softmax()
        error = float((backward() - expected).norm() / expected.norm())
        times = compare({"softmax": softmax, "backward": backward}, repeats=9)
        peak = peak_extra_bytes(backward, device) / (8 * m)
        first = first or times["backward"]
        print(
            f"{m:12} {1e3 * times['softmax']:12.3f} {1e3 * times['backward']:12.3f} "
            f"{times['backward'] / times['softmax']:12.1f} {times['backward'] / first:12.1f} "
            f"{peak:12.1f} {error:12.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
