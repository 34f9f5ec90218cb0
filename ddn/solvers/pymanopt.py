"""Riemannian optimization by Pymanopt, for problems whose feasible set is a manifold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddn.generic import generic_signs
from ddn.optimality import largest
from ddn.problem import Problem
from ddn.solution import SolverResult, Status, WarmStart
from ddn.solvers.manifolds import (
    Array,
    as_blocks_of,
    as_parts,
    as_point,
    import_pymanopt,
    manifold_of,
    nearest_point,
    require_shapes,
)

__all__ = ["Pymanopt"]

# Riemannian gradient, in units of f, that counts as small at an iteration limit.
_SMALL = 1e-6
_TOLERANCE = 1e-9
_ROUNDING = 100 * float(np.finfo(np.float64).eps)
# Of a second run, from the point that a first one has found, in units of the curvature there.
_FEW_ITERATIONS = 30


@dataclass(frozen=True)
class Pymanopt:
    """Riemannian optimization (Townsend, Koep and Weichwald 2016) of

        argmin_y f(x, y)   subject to   y ∈ M,

    one problem after the other, on CPU in float64: spheres, Stiefel and Grassmann manifolds, oblique and
    symmetric positive definite matrices, rotations, and their products (one factor for each solution
    block). Gradients and Hessian-vector products come from autograd. The default optimizer sees f in units of
    its gradient at the start, then in those of its curvature at the solution, so that the units of f do not
    matter; the tolerances of an optimizer that is given are relative to the gradient at the start.

    Derivatives come from the engine if the node states M by ``equality`` as well, else from
    :class:`ddn.RiemannianGradient`, which is what quotient manifolds need.

    A Riemannian method stays in the connected component where it starts: on square orthogonal matrices it can
    miss the optimum in the other component of O(n). It starts at a warm start or at the node's
    ``starting_point``, moved to the manifold, else at random: at the same point for every problem.

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
        manifold = manifold_of(problem, self.manifold)
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch([operand.detach().cpu() for operand in operands])
        flat = [operand.double() if operand.is_floating_point() else operand for operand in flat]
        starts = self._starts(problem, operands, warm_start)
        points, status, iterations = [], [], []
        for index in range(batch.numel()):
            single = problem.select(flat, torch.tensor(index))
            # Each problem on its own: what it starts from is not for the others to decide.
            with _own_random_state(self.seed):
                start = _start(problem, manifold, None if starts is None else starts[index])
                y, code, count = self._solve_one(problem, manifold, single, start)
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

    def _solve_one(
        self, problem: Problem, manifold: Any, operands: Sequence[Tensor], start: Any
    ) -> tuple[Tensor, Status, int]:
        """y, its status, and iterations."""
        y = _to_vector(start)
        if any(bool(operand.isnan().any()) for operand in operands[: problem.num_inputs]):
            return torch.full_like(y, torch.nan), Status.NOT_FINITE, 0
        slope, curved = _derivatives(problem, y, operands)
        scale = max(float(slope.norm()), float(curved.norm()))
        if not np.isfinite(scale):
            return torch.full_like(y, torch.nan), Status.NOT_FINITE, 0
        if manifold.dim == 0:
            return y, Status.CONVERGED, 0
        run = _Run(problem, manifold, operands)
        if self.optimizer is not None:
            point, status = run.optimize(self.optimizer, start, scale or 1.0)
        else:
            point, status = run.by_trust_regions(start, scale or 1.0)
        y = _to_vector(point)
        finite = bool(y.isfinite().all())
        return y, status if finite else Status.NOT_FINITE, run.iterations


class _Run:
    """Calls of Pymanopt for one problem."""

    def __init__(self, problem: Problem, manifold: Any, operands: Sequence[Tensor]) -> None:
        self.problem, self.manifold, self.operands = problem, manifold, operands
        self.pymanopt = import_pymanopt()
        self.iterations = 0

    def by_trust_regions(self, start: Any, scale: float) -> tuple[Any, Status]:
        """In units of the gradient, then in those of the curvature at the point that was found."""
        first = self.pymanopt.optimizers.TrustRegions(min_gradient_norm=_TOLERANCE, verbosity=0)
        point, status = self.optimize(first, start, scale)
        y = _to_vector(point)
        if status != Status.CONVERGED or not bool(y.isfinite().all()):
            return point, status
        tangent = self.manifold.random_tangent_vector(point)
        curvature = float(self.manifold.norm(point, self._hessian(point, tangent)))
        slope, curved = _derivatives(self.problem, y, self.operands)
        rounding = _ROUNDING * max(float(slope.norm()), float(curved.norm()))
        # Where curvature is lost in rounding errors, there is nothing to be gained.
        if not rounding < curvature < np.inf:
            return point, status
        second = self.pymanopt.optimizers.TrustRegions(
            min_gradient_norm=max(_TOLERANCE, rounding / curvature),
            max_iterations=_FEW_ITERATIONS,
            verbosity=0,
        )
        better, again = self.optimize(second, point, curvature)
        return (better if again == Status.CONVERGED else point), status

    def optimize(self, optimizer: Any, start: Any, scale: float) -> tuple[Any, Status]:
        """A minimum of f / scale."""
        posed = self._posed(scale)
        with torch.enable_grad(), np.errstate(all="ignore"):
            slope = posed.riemannian_gradient(start)
            if float(self.manifold.norm(start, slope)) == 0:
                return start, Status.CONVERGED  # there trust regions divide by zero
        try:
            with torch.enable_grad(), np.errstate(all="ignore"):
                result = optimizer.run(posed, initial_point=start)
        except (ArithmeticError, ValueError, RuntimeError):
            # The first evaluation went well: it is the data of this problem that an iterate has failed on.
            return start, Status.STALLED
        self.iterations += int(result.iterations or 0)
        reason = str(result.stopping_criterion).lower()
        limited = "max iterations" in reason or "max time" in reason or "max cost" in reason
        # A gradient norm that rounding forbids keeps the optimizer going; the node verifies its point.
        limited = limited and not (result.gradient_norm or np.inf) <= _SMALL
        return result.point, Status.MAX_ITERATIONS if limited else Status.CONVERGED

    def _posed(self, scale: float) -> Any:
        def cost(*blocks: Tensor) -> Tensor:
            y = torch.cat([block.reshape(-1) for block in blocks])
            return self.problem.objective(y, self.operands) / scale

        function = self.pymanopt.function.pytorch(self.manifold)(cost)
        return self.pymanopt.Problem(self.manifold, function)

    def _hessian(self, point: Any, tangent: Any) -> Any:
        with torch.enable_grad(), np.errstate(all="ignore"):
            return self._posed(1.0).riemannian_hessian(point, tangent)


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
    point = manifold.random_point()
    require_shapes(problem, manifold, point)
    if y is None:
        return point
    parts = as_parts(manifold)
    random: list[Array] = list(as_blocks_of(manifold, point))
    blocks = [block.numpy() for block in problem.split(y)]
    near = [nearest_point(part, block) for part, block in zip(parts, blocks, strict=True)]
    return as_point(manifold, [r if n is None else n for r, n in zip(random, near, strict=True)])


def _derivatives(problem: Problem, y: Tensor, operands: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """∇f, and its change along a generic vector of the size of y."""
    direction = generic_signs(y) * largest(y)
    with torch.enable_grad():
        variable = y.clone().requires_grad_()
        value = problem.objective(variable, operands)
        if not value.requires_grad:
            return torch.where(value.isfinite(), torch.zeros_like(y), torch.nan), torch.zeros_like(
                y
            )
        (slope,) = torch.autograd.grad(value, variable, create_graph=True)
        product = torch.zeros_like(y)
        if slope.requires_grad:
            (product,) = torch.autograd.grad(slope, variable, direction, materialize_grads=True)
    slope = torch.where(value.detach().isfinite(), slope.detach(), torch.nan)
    return slope, product


def _to_vector(point: Any) -> Tensor:
    blocks = point if isinstance(point, list | tuple) else [point]
    return torch.cat([torch.tensor(np.asarray(block)).reshape(-1) for block in blocks])
