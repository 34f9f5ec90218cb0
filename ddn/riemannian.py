"""Derivatives of solutions on a manifold, from the Riemannian Hessian on the tangent space.

At a solution y of min f(x, y) over y ∈ M, the derivative of f along every tangent vector vanishes. With an
orthonormal basis B of the tangent space (of the horizontal space, where M is a quotient) and the Riemannian
Hessian H in that basis,

    dy = −B H⁻¹ Bᵀ (∂²f/∂y∂x) dx,        x̄ = ∂/∂x ⟨B w, ∇_y f(x, y)⟩   with   w = −H⁻¹ Bᵀ ȳ .

At a critical point the second derivative of f along curves depends on neither metric nor connection, so dy
does not, either (Absil, Mahony and Sepulchre 2008, section 5.5). No constraints are needed, and none would do
for a quotient: there the solutions are whole fibres, along which the KKT matrix is singular.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ddn.engine import failure_message
from ddn.errors import DerivativeError, SignatureError, SingularSystemError
from ddn.failure import apply_policy, format_indices
from ddn.forward_mode import inside_transform, own_memory
from ddn.functional import isolated
from ddn.generic import generic_signs
from ddn.optimality import acceptable_residual, largest
from ddn.problem import Problem
from ddn.solution import SolvedProblem, Status
from ddn.solvers.base import Solver
from ddn.solvers.manifolds import as_parts, manifold_of, vertical_part

__all__ = ["RiemannianGradient"]


@dataclass(frozen=True)
class RiemannianGradient:
    """The exact first derivative of a solution on a manifold, for quotient manifolds, too.

    For nodes that do not state their manifold by ``equality``; the default for these with
    :class:`ddn.solvers.Pymanopt`. Costs a dense Hessian of the size of the manifold's dimension per problem,
    on CPU in float64. First derivatives in reverse mode only.

    On a quotient manifold (subspaces, say) a solution is one representative of many. What depends on which
    one it is has no derivative, and is an error: use functions of the subspace, such as Y Yᵀ.

    Attributes:
        manifold: a Pymanopt manifold; None means that of the solver, or of the node.
    """

    manifold: Any = None
    is_exact: ClassVar[bool] = True

    def solve(
        self, problem: Problem, solver: Solver, operands: Sequence[Tensor], on_failure: str
    ) -> SolvedProblem:
        """The solution, differentiable once."""
        name = type(problem.node).__name__
        if problem.has_inequality:
            raise SignatureError(
                f"{name} states inequalities or bounds, which RiemannianGradient does not treat: use "
                "gradient=ddn.ImplicitGradient() and state the manifold by `equality`."
            )
        if inside_transform():
            raise DerivativeError(
                f"{name}: RiemannianGradient works with torch.autograd (backward), not under transforms of "
                "torch.func. State the manifold by `equality` to get these."
            )
        inner = getattr(solver, "solver", solver)  # of a warm start
        manifold = manifold_of(problem, self.manifold or getattr(inner, "manifold", None))
        y, status, residual, iterations = _solve(problem, manifold, solver, operands, on_failure)
        tangent = _Tangent(problem, manifold, on_failure)
        y = _OnManifold.apply(tangent, y, *operands)
        nothing = y.detach()[..., :0]
        none = torch.zeros_like(nothing, dtype=torch.bool)
        zero = torch.zeros_like(residual)
        return SolvedProblem(y, nothing, none, none, status, iterations, residual, zero, zero, zero)


@torch.no_grad()
def _solve(
    problem: Problem, manifold: Any, solver: Solver, operands: Sequence[Tensor], on_failure: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, status, size of the Riemannian gradient beside its terms, and iterations."""
    result = solver.solve(problem, operands)
    flat = problem.flatten_batch(operands)
    y = result.y.reshape(-1, problem.num_variables)
    residuals = []
    for index in range(len(y)):
        single = problem.select(flat, torch.tensor(index, device=y.device))
        residuals.append(_residual(problem, manifold, y[index], single))
    residual = torch.stack(residuals).reshape(result.status.shape)
    solved = residual <= acceptable_residual(y.dtype)
    claimed = result.status == Status.CONVERGED
    status = torch.where(claimed & ~solved, int(Status.NOT_STATIONARY), result.status)
    status = torch.where(claimed & ~residual.isfinite(), int(Status.NOT_FINITE), status)
    (y,) = apply_policy(
        on_failure,
        status != Status.CONVERGED,
        lambda: failure_message(problem, solver, status),
        (result.y,),
    )
    return own_memory((y,))[0], status, residual, result.iterations


def _residual(problem: Problem, manifold: Any, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
    if not bool(y.isfinite().all()):
        return y.new_tensor(torch.nan)
    slope = problem.gradient(y, operands)
    if not bool(slope.isfinite().all()):
        return y.new_tensor(torch.nan)
    blocks = _blocks(problem, y)
    along = _project(manifold, blocks, _blocks(problem, slope))
    with torch.enable_grad():
        generic = generic_signs(y) * largest(y)
        curved = _hessian_product(problem, y, generic, operands)
    size = max(float(slope.norm()), float(curved.norm()))
    return y.new_tensor(float(np.linalg.norm(along)) / size if size else 0.0)


class _Tangent:
    """The linear systems of a solution, one problem after the other."""

    def __init__(self, problem: Problem, manifold: Any, on_failure: str) -> None:
        self.problem, self.manifold, self.on_failure = problem, manifold, on_failure

    def solve(self, y: Tensor, grad_y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """B w for every problem, ``(*batch, m)``."""
        flat = self.problem.flatten_batch(operands)
        points, cotangents = (t.reshape(-1, t.shape[-1]) for t in (y, grad_y))
        found, failed = [], []
        for index in range(len(points)):
            single = self.problem.select(flat, torch.tensor(index, device=y.device))
            direction = self._one(index, points[index], cotangents[index], single)
            failed.append(direction is None)
            found.append(torch.zeros_like(points[index]) if direction is None else direction)
        singular = torch.tensor(failed, device=y.device).reshape(y.shape[:-1])
        (result,) = apply_policy(
            self.on_failure,
            singular,
            lambda: (
                f"{type(self.problem.node).__name__}: the gradient is not defined for "
                f"{format_indices(singular)}. The Riemannian Hessian is singular there: the solution is "
                "not unique, or a minimum of higher order. Add a proximal term to the objective."
            ),
            (torch.stack(found).reshape(y.shape),),
            SingularSystemError,
        )
        return result

    def _one(
        self, index: int, y: Tensor, grad_y: Tensor, operands: Sequence[Tensor]
    ) -> Tensor | None:
        problem, manifold = self.problem, self.manifold
        if not bool(y.isfinite().all()):
            return (
                torch.full_like(y, torch.nan) if bool((grad_y != 0).any()) else y.new_zeros(len(y))
            )
        point, vector = _blocks(problem, y), _blocks(problem, grad_y)
        self._require_horizontal(index, point, vector)
        basis = _basis(manifold, problem, point)
        slope = _blocks(problem, problem.gradient(y, operands))
        columns = []
        for direction in basis:
            ambient = torch.from_numpy(direction).to(y)
            with torch.enable_grad():
                product = _hessian_product(problem, y, ambient, operands)
            columns.append(
                _riemannian(manifold, point, slope, _blocks(problem, product), direction, basis)
            )
        matrix = np.array(columns)
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        limit = len(values) * 1e3 * torch.finfo(y.dtype).eps
        if len(values) and np.abs(values).min() <= limit * np.abs(values).max():
            return None
        flat = grad_y.detach().cpu().double().numpy()
        w = -vectors @ ((vectors.T @ (basis @ flat)) / values)
        return torch.from_numpy(basis.T @ w).to(y)

    def _require_horizontal(
        self, index: int, point: list[np.ndarray], vector: list[np.ndarray]
    ) -> None:
        parts = as_parts(self.manifold)
        worst = max(vertical_part(*triple) for triple in zip(parts, point, vector, strict=True))
        if worst > 1e-5:
            raise DerivativeError(
                f"{type(self.problem.node).__name__}, batch element {index}: the loss depends on which of "
                f"many matrices represents a point of {self.manifold}, and that is arbitrary ({worst:.1e} of "
                "its gradient points to other representatives). Use a function of the point itself, such as "
                "the projection Y Yᵀ onto a subspace."
            )


class _OnManifold(torch.autograd.Function):
    """x ↦ y for a solution that is known."""

    @staticmethod
    def forward(tangent: _Tangent, y: Tensor, *operands: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.tangent, _, *operands = inputs
        ctx.save_for_backward(output, *operands)

    @staticmethod
    @isolated
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        problem: Problem = ctx.tangent.problem
        if torch.is_grad_enabled():
            raise DerivativeError(
                f"{type(problem.node).__name__}: RiemannianGradient has first derivatives only. State the "
                "manifold by `equality` for second ones, or call backward without create_graph=True."
            )
        y, *operands = ctx.saved_tensors
        needed = [i for i, need in enumerate(ctx.needs_input_grad[2:]) if need]
        result: list[Tensor | None] = [None] * len(operands)
        with problem.attributes.held():
            direction = ctx.tangent.solve(y, grad_y, operands)
            with torch.enable_grad():
                leaves = [operands[i].detach().requires_grad_() for i in needed]
                gradients = torch.autograd.grad(
                    _pair(problem, y, direction, operands, needed, leaves),
                    leaves,
                    allow_unused=True,
                    materialize_grads=True,
                )
        for position, value in zip(needed, gradients, strict=True):
            result[position] = value
        return (None, None, *result)


def _pair(
    problem: Problem,
    y: Tensor,
    direction: Tensor,
    operands: Sequence[Tensor],
    needed: Sequence[int],
    leaves: Sequence[Tensor],
) -> Tensor:
    """⟨direction, ∇_y f⟩ as a function of operands."""
    moved = [operand.detach() for operand in operands]
    for position, leaf in zip(needed, leaves, strict=True):
        moved[position] = leaf
    variable = y.detach().requires_grad_()
    value = problem.objective(variable, moved).sum()
    (slope,) = torch.autograd.grad(value, variable, create_graph=True)
    total: Tensor = (direction * slope).sum()
    return total


def _hessian_product(
    problem: Problem, y: Tensor, direction: Tensor, operands: Sequence[Tensor]
) -> Tensor:
    """∂²f/∂y² times a direction."""
    variable = y.detach().requires_grad_()
    constants = [operand.detach() for operand in operands]
    value = problem.objective(variable, constants)
    (slope,) = torch.autograd.grad(value, variable, create_graph=True, materialize_grads=True)
    if not slope.requires_grad:
        return torch.zeros_like(y)
    (product,) = torch.autograd.grad(slope, variable, direction, materialize_grads=True)
    return product


def _blocks(problem: Problem, vector: Tensor) -> list[np.ndarray]:
    return [block.detach().cpu().double().numpy() for block in problem.split(vector)]


def _project(manifold: Any, point: list[np.ndarray], vector: list[np.ndarray]) -> np.ndarray:
    """Orthogonal projection onto the tangent or horizontal space, in the ambient space, ``(m,)``."""
    parts = []
    for factor, y, v in zip(as_parts(manifold), point, vector, strict=True):
        tangent = factor.projection(y, v)
        parts.append(np.ravel(factor.embedding(y, tangent)))
    return np.concatenate(parts)


def _basis(manifold: Any, problem: Problem, point: list[np.ndarray]) -> np.ndarray:
    """Orthonormal rows that span the tangent or horizontal space, ``(dimension, m)``."""
    rows = []
    for unit in torch.eye(problem.num_variables, dtype=torch.float64):
        rows.append(_project(manifold, point, _blocks(problem, unit)))
    _, sizes, directions = np.linalg.svd(np.array(rows))
    basis: np.ndarray = directions[sizes > 0.5]
    return basis


def _riemannian(
    manifold: Any,
    point: list[np.ndarray],
    slope: list[np.ndarray],
    product: list[np.ndarray],
    direction: np.ndarray,
    basis: np.ndarray,
) -> np.ndarray:
    """A column of the Hessian of f along curves, in the basis."""
    column = np.zeros(len(basis))
    offset = 0
    for factor, y, g, h in zip(as_parts(manifold), point, slope, product, strict=True):
        size = y.size
        own = direction[offset : offset + size].reshape(y.shape)
        tangent = factor.projection(y, own)
        hessian = factor.euclidean_to_riemannian_hessian(y, g, h, tangent)
        for position, row in enumerate(basis):
            other = factor.projection(y, row[offset : offset + size].reshape(y.shape))
            column[position] += factor.inner_product(y, other, hessian)
        offset += size
    return column
