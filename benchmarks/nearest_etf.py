"""Nearest simplex ETF, forward and backward, against one thin SVD of the same matrix.

Run:  python -m benchmarks.nearest_etf [--device cuda]
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.timing import compare, environment, peak_extra_bytes
from ddn_etf import NearestETF

SIZES = [(512, 10), (512, 100), (2048, 200), (2048, 1000)]


def make(dim: int, classes: int, dtype: torch.dtype, device: torch.device):
    """The node with centred, normalised class means, a previous solution, and a cotangent."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(dim, classes, generator=generator, dtype=torch.float64)
    means = means - means.mean(1, keepdim=True)
    means = (means / means.norm()).to(device, dtype).requires_grad_()
    proximal = torch.linalg.qr(torch.randn(dim, classes, generator=generator).double()).Q
    cotangent = torch.randn(dim, classes, generator=generator).to(device, dtype)
    return NearestETF(classes, dim).to(device, dtype), means, proximal.to(device, dtype), cotangent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    print(environment())
    print(
        f"{'d':>5} {'K':>5} {'dtype':>8} {'SVD ms':>9} {'node ms':>9} {'node/SVD':>9} {'memory/dK':>10}"
    )
    for dim, classes in SIZES:
        for dtype in (torch.float32, torch.float64):
            node, means, proximal, cotangent = make(dim, classes, dtype, device)

            def step(node=node, means=means, proximal=proximal, cotangent=cotangent):
                return torch.autograd.grad(node(means, proximal), means, cotangent)

            def svd(means=means):
                return torch.linalg.svd(means.detach(), full_matrices=False)

            repeats = 7 if classes >= 1000 else 25
            times = compare({"svd": svd, "node": step}, repeats)
            memory = peak_extra_bytes(step, device) / (means.numel() * means.element_size())
            print(
                f"{dim:5} {classes:5} {str(dtype)[6:]:>8} {1e3 * times['svd']:9.3f} "
                f"{1e3 * times['node']:9.3f} {times['node'] / times['svd']:9.2f} {memory:10.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
