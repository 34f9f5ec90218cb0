"""KKT systems and nodes on which all linear solvers must agree."""

from __future__ import annotations

import torch
from torch import Tensor

import ddn
from ddn import kkt
from ddn.kkt import KKTSolver, KKTSystem
from ddn.lagrangian import Lagrangian

__all__ = ["NODES", "SOLVERS", "Coupled", "Separable", "make_system", "solve_both"]

SOLVERS: dict[str, KKTSolver] = {
    "schur": kkt.SchurComplement(),
    "block": kkt.BlockDiagonal(),
    "cg": kkt.ProjectedCG(),
    "cg-hutchinson": kkt.ProjectedCG(preconditioner=kkt.HutchinsonDiagonal()),
    "minres": kkt.MINRES(),
    "automatic": kkt.Automatic(),
    "automatic-large": kkt.Automatic(dense_budget=0),
}


class Unconstrained(ddn.DeclarativeNode):
    """A separable objective, strictly convex."""

    signature = "(n),(n)->(n)"

    def objective(self, x: Tensor, w: Tensor, y: Tensor) -> Tensor:
        return ((1 + w.square()) * (y - x).square() + (y * x).cos() / 4).sum()


class Equality(Unconstrained):
    """Two rows, one of them curved."""

    def equality(self, x: Tensor, w: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y.sum() - 1, (x * y + y.square() / 9).sum()])


class Bounds(Unconstrained):
    """Some variables without bounds, some with one, some with two."""

    def bounds(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(w > 0.5, -torch.inf, -1.0), torch.where(w < -0.5, torch.inf, 1.0)


class Separable(Bounds):
    """All kinds of constraints together."""

    def equality(self, x: Tensor, w: Tensor, y: Tensor) -> Tensor:
        return y.sum().unsqueeze(0) - 1

    def inequality(self, x: Tensor, w: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (y.square().sum() - 4, y[:2] - x[:2])


class Coupled(Separable):
    """The same with a Hessian that is not diagonal."""

    def objective(self, x: Tensor, w: Tensor, y: Tensor) -> Tensor:
        return super().objective(x, w, y) + 0.5 * y.diff().square().sum() + 0.5 * (y @ w) ** 2


NODES = {
    "unconstrained": Unconstrained,
    "equality": Equality,
    "bounds": Bounds,
    "separable": Separable,
    "coupled": Coupled,
}


def make_system(
    node: ddn.DeclarativeNode,
    batch: tuple[int, ...],
    n: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    barrier: float = 0.0,
) -> KKTSystem:
    """A system at a random point, with another active set in every problem."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    x, w = draw(*batch, n), draw(*batch, n)
    bound = node.bind(x, w)
    problem, y = bound.problem, draw(*batch, n)
    count = problem.constraints(y, bound.operands).shape[-1]
    q = problem.num_inequalities(y, bound.operands)
    multipliers = draw(*batch, count).abs() / 4 + 0.1
    active = torch.ones(*batch, q, dtype=torch.bool, device=device)
    if not barrier:
        active = torch.rand(*batch, q, generator=generator).to(device) < 0.25
        if problem.has_bounds:
            lower, upper = problem.bounds(bound.operands)
            stated = q - 2 * n
            low = active[..., stated : stated + n] & lower.isfinite()
            high = active[..., stated + n :] & upper.isfinite() & ~low
            rows = active[..., :stated].clone()
            if stated:  # the last rows bound y_0 and y_1, too: no variable is held twice
                rows[..., -2:] &= ~(low | high)[..., :2]
            active = torch.cat([rows, low, high], -1)
        # Inactive multipliers are zero.
        kept = torch.cat([active.new_ones(*batch, count - q), active], -1)
        multipliers = torch.where(kept, multipliers, 0)
    return KKTSystem(Lagrangian(problem, barrier), y, multipliers, active, bound.operands)


def solve_both(
    system: KKTSystem, solver: KKTSolver, extra: tuple[int, ...] = (), constraints: bool = True
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """Solutions by a solver and by a dense matrix for one random right side, and which failed."""
    generator = torch.Generator().manual_seed(1)
    right = [
        torch.randn(*extra, *part.shape, generator=generator, dtype=torch.float64).to(part)
        for part in (system.y, system.multipliers)
    ]
    if not constraints:
        right[1] = torch.zeros_like(right[1])
    with torch.no_grad():
        *found, failed = solver.factorize(system).solve(*right)
        *expected, dense_failed = kkt.Dense().factorize(system).solve(*right)
    assert not dense_failed.any()
    return (found[0], found[1]), (expected[0], expected[1]), failed
