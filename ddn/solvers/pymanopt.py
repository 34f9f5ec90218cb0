"""Riemannian optimization by Pymanopt, for problems whose feasible set is a manifold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.manifolds import (
    as_parts,
    import_pymanopt,
    manifold_of,
    nearest_point,
    require_shapes,
)

__all__ = ["Pymanopt"]

# Riemannian gradient, relative to the gradient at the start, that counts as small at an iteration limit.
_SMALL = 1e-6


@dataclass(frozen=True)
class Pymanopt:
    """Riemannian optimization (Townsend, Koep and Weichwald 2016) of

        argmin_y f(x, y)   subject to   y ∈ M,

    one problem after the other, on CPU in float64: spheres, Stiefel and Grassmann manifolds, oblique and
    symmetric positive definite matrices, rotations, and their products (one factor for each solution
    block). Gradients and Hessian-vector products come from autograd, and f is scaled by its gradient at the
    start, so that its units do not matter.

    Derivatives come from the engine if the node states M by ``equality`` as well, else from
    :class:`ddn.RiemannianGradient`, which is what quotient manifolds need.

    A Riemannian method stays in the connected component where it starts: on square orthogonal matrices it can
    miss the optimum in the other component of O(n). It starts at a warm start or at the node's
    ``starting_point``, moved to the manifold, else at random.

    Attributes:
        optimizer: a Pymanopt optimizer; None means trust regions with gradient norm 1e-9.
        manifold: a Pymanopt manifold; None asks the node: ``manifold(*shapes)``, given the core shapes of its
            solution blocks.
        seed: of the random starting point.
    """

    optimizer: Any = None
    manifold: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer is not None and not callable(getattr(self.optimizer, "run", None)):
            raise TypeError(
                "optimizer is an object such as pymanopt.optimizers.TrustRegions(), but was given "
                f"{self.optimizer!r}. A manifold is passed by name: Pymanopt(manifold=...)."
            )

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None = None
    ) -> SolverResult:
        """Solve the batch, without derivatives."""
        pymanopt = import_pymanopt()
        manifold = manifold_of(problem, self.manifold)
        optimizer = self.optimizer or pymanopt.optimizers.TrustRegions(
            min_gradient_norm=1e-9, verbosity=0
        )
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch([operand.detach().cpu() for operand in operands])
        flat = [operand.double() if operand.is_floating_point() else operand for operand in flat]
        starts = self._starts(problem, operands, warm_start)
        points, status, iterations = [], [], []
        with _own_random_state(self.seed):
            for index in range(batch.numel()):
                single = problem.select(flat, torch.tensor(index))
                start = _start(problem, manifold, None if starts is None else starts[index])
                y, code, count = _solve_one(pymanopt, optimizer, manifold, problem, single, start)
                points.append(y)
                status.append(int(code))
                iterations.append(count)
        device = operands[0].device
        return SolverResult(
            torch.stack(points).reshape(*batch, -1).to(operands[0]),
            None,
            torch.tensor(status, device=device).reshape(batch),
            torch.tensor(iterations, device=device).reshape(batch),
        )

    def _starts(
        self, problem: Problem, operands: Sequence[Tensor], warm_start: WarmStart | None
    ) -> Tensor | None:
        if warm_start is not None:
            y = warm_start.y
        elif problem.node.starting_point is not None:
            y = problem.starting_point(operands)
        else:
            return None
        return y.detach().cpu().double().reshape(-1, problem.num_variables)


@contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Pymanopt draws from the global state of NumPy."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _start(problem: Problem, manifold: Any, y: Tensor | None) -> Any:
    """A point of the manifold: near y where it is known how, else random."""
    parts = as_parts(manifold)
    point = manifold.random_point()
    require_shapes(problem, manifold, point)
    if y is None:
        return point
    blocks = [block.numpy() for block in problem.split(y)]
    random = list(point) if len(parts) > 1 else [point]
    near = [nearest_point(part, block) for part, block in zip(parts, blocks, strict=True)]
    chosen = [r if n is None else n for r, n in zip(random, near, strict=True)]
    return chosen if len(parts) > 1 else chosen[0]


def _solve_one(
    pymanopt: Any, optimizer: Any, manifold: Any, problem: Problem, operands: Any, start: Any
) -> tuple[Tensor, Status, int]:
    """y, its status, and iterations."""
    y = _to_vector(start)
    with torch.enable_grad():
        variable = y.clone().requires_grad_()
        value = problem.objective(variable, operands)
        slope = torch.zeros_like(y)
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value, variable)
    if not bool(value.isfinite() & slope.isfinite().all()):
        return y, Status.NOT_FINITE, 0
    scale = float(slope.norm()) or 1.0

    def cost(*blocks: Tensor) -> Tensor:
        return problem.objective(torch.cat([b.reshape(-1) for b in blocks]), operands) / scale

    posed = pymanopt.Problem(manifold, pymanopt.function.pytorch(manifold)(cost))
    try:
        with torch.enable_grad(), np.errstate(all="ignore"):
            result = optimizer.run(posed, initial_point=start)
    except (ArithmeticError, np.linalg.LinAlgError):
        return y, Status.STALLED, 0
    y = _to_vector(result.point)
    reason = str(result.stopping_criterion).lower()
    limited = "max iterations" in reason or "max time" in reason or "max cost" in reason
    # A gradient norm that rounding forbids keeps the optimizer going; the node verifies what it has found.
    limited = limited and not (result.gradient_norm or np.inf) <= _SMALL
    status = Status.MAX_ITERATIONS if limited else Status.CONVERGED
    finite = bool(y.isfinite().all())
    return y, status if finite else Status.NOT_FINITE, int(result.iterations or 0)


def _to_vector(point: Any) -> Tensor:
    blocks = point if isinstance(point, list | tuple) else [point]
    return torch.cat([torch.tensor(np.asarray(block)).reshape(-1) for block in blocks])
