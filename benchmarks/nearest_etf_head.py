"""The nearest-ETF head: one training step of it at any number of classes, and inside a network.

Run:  python -m benchmarks.nearest_etf_head [--device cuda] [--classes 10 1000] [--repeats 7]

Three tables, float32:

* the head alone, K = 10 to 2000: forward, cross entropy and backward to the features, in milliseconds
  and in multiples of the feature matrix's size (peak memory beyond what was in use / 4 d K bytes);
* the same beside one thin SVD of a (d, K) matrix;
* one training step of the small network at K = 10, batch 256, with this head and with a linear one.

Times are the least of all repeats, with the candidates taking turns: what else runs on the machine
only adds.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.timing import compare, environment, peak_extra_bytes
from ddn_etf.heads import Head, LinearHead, NearestETFHead
from ddn_etf.models import small_convnet

SIZES = {10: 512, 100: 512, 200: 2048, 500: 2048, 1000: 2048, 2000: 2048}


def training_step(head: Head, features: torch.Tensor, labels: torch.Tensor):
    """Forward, loss and backward to the features."""

    def step() -> torch.Tensor:
        return torch.autograd.grad(cross_entropy(head(features, labels), labels), features)[0]

    return step


def head_alone(classes: int, dim: int, repeats: int, device: torch.device) -> None:
    """One line: the head, and one thin SVD of as large a matrix."""
    generator = torch.Generator().manual_seed(0)
    samples = max(256, classes)
    labels = (torch.arange(samples) % classes).to(device)
    features = torch.randn(samples, dim, generator=generator).to(device).requires_grad_()
    matrix = torch.randn(dim, classes, generator=generator).to(device)
    head = NearestETFHead(dim, classes).to(device)
    step = training_step(head, features, labels)
    times = compare(
        {"head": step, "svd": lambda: torch.linalg.svd(matrix, full_matrices=False)},
        repeats,
        reduce=min,
    )
    memory = peak_extra_bytes(step, device) / (4 * dim * classes)
    print(
        f"{classes:5} {dim:5} {samples:6} {1e3 * times['head']:9.2f} {1e3 * times['svd']:9.2f} "
        f"{times['head'] / times['svd']:9.2f} {memory:12.1f}",
        flush=True,
    )


def in_a_network(repeats: int, device: torch.device) -> None:
    """One step of stochastic gradient descent of the small network with either head."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 1, 8, 8, generator=generator).to(device)
    labels = (torch.arange(256) % 10).to(device)

    def network(head: Head):
        torch.manual_seed(0)
        backbone = small_convnet(64).to(device)
        model = nn.ModuleList([backbone, head.to(device)])
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

        def step() -> None:
            optimizer.zero_grad()
            cross_entropy(head(backbone(inputs), labels), labels).backward()
            optimizer.step()

        return step

    steps = {
        "linear": network(LinearHead(64, 10)),
        "linear, unit rows": network(LinearHead(64, 10, temperature=5.0, unit_rows=True)),
        "nearest ETF": network(NearestETFHead(64, 10)),
        "nearest ETF, no validation": network(NearestETFHead(64, 10, validate=False)),
    }
    times = compare(steps, repeats, reduce=min)
    for name, seconds in times.items():
        print(f"{name:28} {1e3 * seconds:9.3f} ms {seconds / times['linear']:9.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--classes", type=int, nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(environment())
    print(
        f"{'K':>5} {'d':>5} {'N':>6} {'head ms':>9} {'SVD ms':>9} {'head/SVD':>9} {'memory/4dK':>12}"
    )
    for classes in arguments.classes:
        few = arguments.repeats if classes < 1000 else 3
        head_alone(classes, SIZES[classes], few, device)
    print("\none training step of the small network, K = 10, batch 256")
    in_a_network(10 * arguments.repeats, device)


if __name__ == "__main__":
    main()
