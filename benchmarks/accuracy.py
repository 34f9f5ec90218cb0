"""Agreement of the routes to the nearest simplex ETF, and what float32 costs.

Run:  python -m benchmarks.accuracy
"""

from __future__ import annotations

import torch

import ddn
from benchmarks.timing import environment
from ddn_etf import NearestETF, NearestFrame


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Frobenius norm of the difference, relative to the expected one."""
    return float((actual - expected).norm() / expected.norm())


def routes(dim: int, classes: int, seed: int) -> dict[str, tuple[float, float]]:
    """Largest entry of the difference of V, relative difference of the gradient, to the closed form."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(dim, classes, generator=generator, dtype=torch.float64)
    means = means - means.mean(1, keepdim=True)
    means = (means / means.norm()).requires_grad_()
    start = torch.randn(dim, classes, generator=generator, dtype=torch.float64)
    proximal = torch.linalg.qr(start).Q
    cotangent = torch.randn(dim, classes, generator=generator, dtype=torch.float64)
    engine = ddn.ImplicitGradient()
    nodes = {
        "closed form": NearestETF(classes, dim),
        "engine at the closed form": NearestETF(classes, dim, gradient=engine),
        "Newton and engine": NearestETF(classes, dim, solver=ddn.solvers.Newton(), gradient=engine),
        "Pymanopt and engine": NearestETF(
            classes, dim, solver=ddn.solvers.Pymanopt(), gradient=engine
        ),
    }
    results = {}
    for name, node in nodes.items():
        V = node(means, proximal)
        (gradient,) = torch.autograd.grad(V, means, cotangent)
        results[name] = (V.detach(), gradient)
    reference = results.pop("closed form")
    return {
        name: (float((V - reference[0]).abs().max()), relative(gradient, reference[1]))
        for name, (V, gradient) in results.items()
    }


def float32_error(dim: int, classes: int, condition: float, seed: int) -> tuple[float, float]:
    """Relative error of V and gradient in float32 for a matrix of given condition number."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(dim, classes, generator=generator).double()).Q
    right = torch.linalg.qr(torch.randn(classes, classes, generator=generator).double()).Q
    exponents = -torch.log10(torch.tensor(condition))
    spectrum = torch.logspace(0, float(exponents), classes, dtype=torch.float64)
    means = ((left * spectrum) @ right.mT).float()
    cotangent = torch.randn(dim, classes, generator=generator)
    node = NearestFrame(torch.eye(classes))
    results = []
    for dtype in (torch.float32, torch.float64):
        variable = means.to(dtype).requires_grad_()
        V = node(variable)
        (gradient,) = torch.autograd.grad(V, variable, cotangent.to(dtype))
        results.append((V.detach().double(), gradient.double()))
    (V, gradient), (V_exact, exact) = results
    return relative(V, V_exact), relative(gradient, exact)


def main() -> None:
    print(environment())
    print("routes against the closed form, largest of 10 seeds: |V - V*|, relative gradient")
    for dim, classes in ((6, 4), (12, 5), (16, 10)):
        runs = [routes(dim, classes, seed) for seed in range(10)]
        for name in runs[0]:
            worst = [max(run[name][i] for run in runs) for i in (0, 1)]
            print(f"  ({dim:2},{classes:3})  {name:26} {worst[0]:8.1e} {worst[1]:8.1e}")
    print("float32 against float64, largest of 5 seeds: V, gradient")
    for dim, classes in ((64, 10), (512, 100)):
        for condition in (1.0, 30.0, 1e3):
            runs = [float32_error(dim, classes, condition, seed) for seed in range(5)]
            worst = [max(run[i] for run in runs) for i in (0, 1)]
            print(
                f"  ({dim:3},{classes:3})  condition {condition:6.0f}  {worst[0]:8.1e} {worst[1]:8.1e}"
            )


if __name__ == "__main__":
    main()
