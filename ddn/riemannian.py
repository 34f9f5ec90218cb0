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

from ddn.errors import DerivativeError, SignatureError, SingularSystemError
from ddn.failure import apply_policy, format_indices
from ddn.forward_mode import inside_transform
from ddn.functional import isolated, refuse_legacy_vmap
from ddn.on_manifold import blocks_of, hessian_product, project, slope_of, solve_on_manifold
from ddn.problem import Problem
from ddn.solution import SolvedProblem
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
        found = solve_on_manifold(problem, manifold, solver, operands, on_failure)
        tangent = _Tangent(problem, manifold, on_failure)
        y, multipliers = _OnManifold.apply(tangent, found.y, found.multipliers, *operands)
        none = torch.zeros_like(found.y[..., :0], dtype=torch.bool)
        zero = torch.zeros_like(found.stationarity)
        return SolvedProblem(
            y,
            multipliers,
            none,
            none,
            found.status,
            found.iterations,
            found.stationarity,
            found.feasibility,
            zero,
            zero,
        )


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
        if not bool((grad_y != 0).any()):
            return torch.zeros_like(y)  # no derivative is asked for, whatever the solution
        if not bool((y.isfinite() & grad_y.isfinite()).all()):
            return torch.full_like(y, torch.nan)
        point, vector = blocks_of(problem, y), blocks_of(problem, grad_y)
        self._require_horizontal(index, point, vector)
        basis = _basis(manifold, problem, point)
        if len(basis) != manifold.dim:
            raise DerivativeError(
                f"{type(problem.node).__name__}, batch element {index}: the projection to the tangent "
                f"space has rank {len(basis)}, and the manifold ({manifold}) dimension {manifold.dim}. The "
                "solution is no regular point, or the projection is not orthogonal, like that of "
                "Pymanopt's Elliptope. Use another manifold, or state constraints."
            )
        slope = blocks_of(problem, problem.gradient(y, operands))
        columns = []
        for direction in basis:
            ambient = torch.from_numpy(direction).to(y)
            with torch.enable_grad():
                product = hessian_product(problem, y, ambient, operands)
            columns.append(
                _riemannian(manifold, point, slope, blocks_of(problem, product), direction, basis)
            )
        matrix = np.array(columns).reshape(len(basis), len(basis))
        if not np.isfinite(matrix).all():
            return torch.full_like(y, torch.nan)
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
        parting = [vertical_part(*triple) for triple in zip(parts, point, vector, strict=True)]
        worst = max(parting) / float(np.linalg.norm(np.concatenate([v.ravel() for v in vector])))
        if worst > 1e-5:
            raise DerivativeError(
                f"{type(self.problem.node).__name__}, batch element {index}: the loss depends on which of "
                f"many matrices represents a point of {self.manifold}, and that is arbitrary ({worst:.1e} of "
                "its gradient points to other representatives). Use a function of the point itself, such as "
                "the projection Y Yᵀ onto a subspace."
            )


class _OnManifold(torch.autograd.Function):
    """x ↦ y for a solution that is known, and multipliers without derivatives."""

    @staticmethod
    def forward(
        tangent: _Tangent, y: Tensor, multipliers: Tensor, *operands: Tensor
    ) -> tuple[Tensor, Tensor]:
        return y.clone(), multipliers.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.tangent, _, _, *operands = inputs
        ctx.save_for_backward(output[0], *operands)

    @staticmethod
    @isolated
    def backward(ctx: Any, grad_y: Tensor, grad_multipliers: Tensor) -> tuple[Tensor | None, ...]:
        problem: Problem = ctx.tangent.problem
        refuse_legacy_vmap(type(problem.node).__name__, (grad_y, grad_multipliers))
        if torch.is_grad_enabled():
            raise DerivativeError(
                f"{type(problem.node).__name__}: RiemannianGradient has first derivatives only. State the "
                "manifold by `equality` for second ones, or call backward without create_graph=True."
            )
        if bool((grad_multipliers != 0).any()):
            raise DerivativeError(
                f"{type(problem.node).__name__}: RiemannianGradient has no derivatives of multipliers. Use "
                "gradient=ddn.ImplicitGradient()."
            )
        y, *operands = ctx.saved_tensors
        needed = [i for i, need in enumerate(ctx.needs_input_grad[3:]) if need]
        result: list[Tensor | None] = [None] * len(operands)
        with problem.attributes.held():
            direction = ctx.tangent.solve(y, grad_y, operands)
            gradients = _pull_back(problem, y, direction, operands, needed)
        for position, value in zip(needed, gradients, strict=True):
            result[position] = value
        return (None, None, None, *result)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise DerivativeError(
            f"{type(ctx.tangent.problem.node).__name__}: RiemannianGradient has derivatives in reverse mode "
            "only (backward). State the manifold by `equality` to get forward mode, too."
        )


def _pull_back(
    problem: Problem,
    y: Tensor,
    direction: Tensor,
    operands: Sequence[Tensor],
    needed: Sequence[int],
) -> tuple[Tensor, ...]:
    """∂/∂x ⟨direction, ∇_y f⟩ for the operands that are needed."""
    direction = direction.reshape(-1, direction.shape[-1])
    # Problems without a part in the loss do not spoil the gradients of what they share, NaN or not.
    concerned = (direction != 0).any(-1).nonzero().squeeze(-1)
    with torch.enable_grad():
        moved = [operand.detach() for operand in operands]
        leaves = [moved[position].requires_grad_() for position in needed]
        variable = y.detach().reshape(direction.shape)[concerned].requires_grad_()
        if len(concerned):
            selected = problem.select(problem.flatten_batch(moved), concerned)
            value = problem.objective(variable, selected).sum()
            slope = slope_of(value, variable)
            total = (direction[concerned] * slope).sum()
            if total.requires_grad:
                return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return tuple(torch.zeros_like(leaf) for leaf in leaves)


def _basis(manifold: Any, problem: Problem, point: list[np.ndarray]) -> np.ndarray:
    """Orthonormal rows that span the tangent or horizontal space, ``(dimension, m)``."""
    rows = []
    for unit in torch.eye(problem.num_variables, dtype=torch.float64):
        rows.append(project(manifold, point, blocks_of(problem, unit)))
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
