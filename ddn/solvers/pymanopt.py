"""Riemannian optimization by Pymanopt, for problems whose feasible set is a manifold."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddn.errors import DeclarativeNodeError, MissingDependencyError
from ddn.problem import Problem
from ddn.solution import SolverResult, Status

__all__ = ["Pymanopt", "import_pymanopt"]


@dataclass(frozen=True)
class Pymanopt:
    """Riemannian optimization (Townsend, Koep and Weichwald 2016) of

        argmin_y f(x, y)   subject to   y ∈ M,

    one problem after the other, on CPU in float64. The node still states M by ``equality`` (the
    gradient needs it); the manifold is where the solver searches. Euclidean gradients and Hessian-vector
    products come from autograd.

    A Riemannian method stays in the connected component where it starts: on square orthogonal matrices
    it can miss the optimum in the other component of O(n).

    Attributes:
        manifold: a Pymanopt manifold; None asks the node: ``manifold(*shapes)``,
            given the core shapes of its solution blocks.
        optimizer: a Pymanopt optimizer; None means trust regions with gradient norm 1e-9.
        seed: of the random starting point (the node's ``starting_point`` is not on the manifold in
            general).
    """

    manifold: Any = None
    optimizer: Any = None
    seed: int = 0

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        """Solve the batch, without derivatives."""
        pymanopt = import_pymanopt()
        manifold = self._manifold(problem)
        optimizer = self.optimizer or pymanopt.optimizers.TrustRegions(
            min_gradient_norm=1e-9, verbosity=0
        )
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch([operand.detach().cpu() for operand in operands])
        flat = [operand.double() if operand.is_floating_point() else operand for operand in flat]
        state = np.random.get_state()  # noqa: NPY002 - Pymanopt draws from the global state
        np.random.seed(self.seed)  # noqa: NPY002
        points, iterations = [], []
        try:
            for index in torch.arange(batch.numel()):
                single = problem.select(flat, index)
                with torch.enable_grad():
                    result = optimizer.run(_pymanopt_problem(pymanopt, manifold, problem, single))
                points.append(_to_vector(result.point))
                iterations.append(int(result.iterations or 0))
        finally:
            np.random.set_state(state)  # noqa: NPY002
        reference = operands[0]
        y = torch.stack(points).reshape(*batch, -1).to(reference)
        # The node verifies stationarity, which is what the optimizer's stopping reason stands for.
        status = torch.full(batch, int(Status.CONVERGED), device=y.device)
        return SolverResult(y, None, status, torch.tensor(iterations).reshape(batch).to(y.device))

    def _manifold(self, problem: Problem) -> Any:
        if self.manifold is not None:
            return self.manifold
        propose = getattr(problem.node, "manifold", None)
        if propose is None:
            raise DeclarativeNodeError(
                f"{type(problem.node).__name__} does not say on which manifold its solution lives: "
                "pass one, ddn.solvers.Pymanopt(manifold=pymanopt.manifolds.Stiefel(n, p)), or define "
                "`manifold(*shapes)` on the node."
            )
        return propose(*problem.output_shapes)


def _pymanopt_problem(
    pymanopt: Any, manifold: Any, problem: Problem, operands: Sequence[Tensor]
) -> Any:
    def cost(*blocks: Tensor) -> Tensor:
        y = torch.cat([block.reshape(-1) for block in blocks])
        return problem.objective(y, operands)

    return pymanopt.Problem(manifold, pymanopt.function.pytorch(manifold)(cost))


def _to_vector(point: Any) -> Tensor:
    blocks = point if isinstance(point, list | tuple) else [point]
    return torch.cat([torch.as_tensor(np.asarray(block)).reshape(-1) for block in blocks])


def import_pymanopt() -> Any:
    """The package, or an error that says how to install it."""
    try:
        module = importlib.import_module("pymanopt")
        for part in ("function", "manifolds", "optimizers"):
            importlib.import_module(f"pymanopt.{part}")
    except ImportError as error:
        raise MissingDependencyError("pymanopt", "pymanopt", "ddn.solvers.Pymanopt") from error
    return module
