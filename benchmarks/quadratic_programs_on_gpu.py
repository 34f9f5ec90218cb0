"""Quadratic programs on a GPU beside the CPU of the same machine: forward and backward pass, float64.

``difference`` is the largest difference of the solution, and of the gradients, from those of the CPU, each
relative to its largest entry.

Run:  python -m benchmarks.quadratic_programs_on_gpu [--device cuda] [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import ddn
from benchmarks.peers.cases import Case
from benchmarks.timing import environment

SIZES = (((20, 5, 10), (128, 4096)), ((100, 20, 50), (1, 32, 1024)))
SOLVERS = {"default": None, "InteriorPoint": ddn.solvers.InteriorPoint()}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    device = torch.device(options.device)
    print(environment())
    if device.type == "cuda":
        print(torch.cuda.get_device_name(device))
    print(f"{'':28}{'solver':16}{'CPU':>10}{device.type:>10}{'ratio':>8}{'difference':>12}")
    for sizes, batches in SIZES:
        for batch in batches:
            case = Case("", "quadratic", batch, sizes)
            for name, solver in SOLVERS.items():
                node = ddn.nodes.QuadraticProgram(solver=solver)
                inputs = case.inputs()
                cotangent = case.cotangent(inputs[1])
                on_cpu = _step(node, inputs, cotangent)
                moved = tuple(tensor.to(device) for tensor in inputs)
                there = _step(node, moved, cotangent.to(device))
                times = [
                    _milliseconds(run, where, options.repeats)
                    for run, where in ((on_cpu, torch.device("cpu")), (there, device))
                ]
                difference = max(
                    float((b.cpu() - a).abs().max() / a.abs().max())
                    for a, b in zip(on_cpu(), there(), strict=True)
                )
                title = f"n={sizes[0]} {sizes[1:]}, batch {batch}"
                print(
                    f"{title:28}{name:16}{times[0]:8.2f}ms{times[1]:8.2f}ms"
                    f"{times[0] / times[1]:7.1f}x{difference:12.1e}"
                )


def _step(
    node: torch.nn.Module, inputs: tuple[Tensor, ...], cotangent: Tensor
) -> Callable[[], list[Tensor]]:
    def step() -> list[Tensor]:
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        y = node(*leaves)
        y.backward(cotangent)
        return [y.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    return step


def _milliseconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()
