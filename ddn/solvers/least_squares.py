"""What the methods for nonlinear least squares share: the linear model of a residual, and its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ddn.errors import SignatureError
from ddn.functional import reverse
from ddn.optimality import largest
from ddn.problem import Problem
from ddn.solvers.box import Box

__all__ = ["Factors", "ResidualPoint", "require_residual", "residual_and_jacobian"]


def require_residual(problem: Problem, solver: str) -> None:
    """Raise SignatureError where the node states no residual."""
    if not problem.has_residual:
        raise SignatureError(
            f"{type(problem.node).__name__} states no residual, which {solver} needs: define `residual` in "
            "place of `objective` where that is ½‖r‖², or use solver=ddn.solvers.Newton() or "
            "ddn.solvers.LBFGS()."
        )


def residual_and_jacobian(
    problem: Problem, y: Tensor, operands: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """r ``(*batch, k)`` and J = ∂r/∂y ``(*batch, k, m)``.

    By one reverse pass for each row, or, where there are more rows than columns, for each column: J e is the
    derivative of v ↦ Jᵀv in the direction e, by a reverse pass through a reverse pass.
    """

    def single(y: Tensor, *operands: Tensor) -> tuple[Tensor, Tensor]:
        value, pullback = reverse(lambda y: problem.residual_of_one(y, *operands), y)
        rows, columns = len(value), len(y)
        if not rows or not columns:
            return value, y.new_zeros(rows, columns)
        if rows <= columns:
            basis = torch.eye(rows, dtype=y.dtype, device=y.device)
            jacobian: Tensor = torch.func.vmap(lambda e: pullback(e)[0])(basis)
            return value, jacobian
        _, pushforward = reverse(lambda v: pullback(v)[0], torch.zeros_like(value))
        basis = torch.eye(columns, dtype=y.dtype, device=y.device)
        transposed: Tensor = torch.func.vmap(lambda e: pushforward(e)[0])(basis)
        return value, transposed.mT

    value, jacobian = problem.vectorize(single, (1,), (y,), operands)
    return value, jacobian


@dataclass(frozen=True)
class ResidualPoint:
    """A point, its residual and everything of first order.

    Attributes:
        y: ``(batch, m)``.
        residual: r, ``(batch, k)``.
        jacobian: J, ``(batch, k, m)``.
        value: ½‖r‖², ``(batch,)``.
        gradient: Jᵀr, ``(batch, m)``.
    """

    y: Tensor
    residual: Tensor
    jacobian: Tensor
    value: Tensor
    gradient: Tensor

    @classmethod
    def at(cls, problem: Problem, y: Tensor, operands: Sequence[Tensor]) -> ResidualPoint:
        """Evaluate at y."""
        residual, jacobian = residual_and_jacobian(problem, y, operands)
        gradient = (residual.unsqueeze(-2) @ jacobian).squeeze(-2)
        return cls(y, residual, jacobian, residual.square().sum(-1) / 2, gradient)

    @property
    def is_finite(self) -> Tensor:
        """Whether all of it is finite, ``(batch,)``."""
        finite = self.jacobian.isfinite().flatten(-2).all(-1)
        return finite & self.gradient.isfinite().all(-1) & self.value.isfinite()

    def select(self, index: Tensor) -> ResidualPoint:
        """The problems ``index``."""
        return ResidualPoint(*(getattr(self, field.name)[index] for field in fields(self)))

    def where(self, mask: Tensor, other: ResidualPoint) -> ResidualPoint:
        """This point where ``mask`` is true, the other one elsewhere."""
        parts = []
        for field in fields(self):
            mine = getattr(self, field.name)
            rows = mask.reshape(-1, *(1,) * (mine.ndim - 1))
            parts.append(torch.where(rows, mine, getattr(other, field.name)))
        return ResidualPoint(*parts)

    def linear(self, direction: Tensor) -> Tensor:
        """J d, ``(batch, k)``."""
        return (self.jacobian @ direction.unsqueeze(-1)).squeeze(-1)

    def predicted(self, direction: Tensor) -> Tensor:
        """½‖r‖² − ½‖r + J d‖², ``(batch,)``."""
        change = self.linear(direction).square().sum(-1) / 2
        result: Tensor = -(self.gradient * direction).sum(-1) - change
        return result

    def column_sizes(self) -> Tensor:
        """‖∂r/∂y_j‖ of all variables, ``(batch, m)``."""
        result: Tensor = self.jacobian.norm(dim=-2)
        return result

    def curvature_terms(self) -> Tensor:
        """Largest entry of ``|J|ᵀ |J| |y|``, ``(batch,)``: of the terms that cancel in the gradient."""
        absolute = self.jacobian.abs()
        product: Tensor = absolute.mT @ (absolute @ self.y.abs().unsqueeze(-1))
        return largest(product.squeeze(-1))


@dataclass(frozen=True)
class Factors:
    """Singular values of J D⁻¹ for the free variables, D being the sizes of the variables' effects.

    The normal equations JᵀJ would square the condition number. A triangular factor of J, where it has more
    rows than columns, has the same singular values and costs no more than they do. They are decomposed once
    and serve every damping; and where J is rank-deficient they give the shortest step.

    Attributes:
        left: Uᵀr, ``(batch, k')``.
        values: ``(batch, k')``; zero where they are rounding errors of the largest.
        right: ``(batch, k', m)``.
        scale: D, ``(batch, m)``.
        free: variables that the step moves, ``(batch, m)``.
        rest: step of the others: −∇f, scaled, ``(batch, m)``.
    """

    left: Tensor
    values: Tensor
    right: Tensor
    scale: Tensor
    free: Tensor
    rest: Tensor

    @classmethod
    def of(cls, point: ResidualPoint, scale: Tensor, box: Box) -> Factors:
        """Factorize at a point."""
        y, gradient = point.y, point.gradient
        steepest = -gradient / scale.square()
        free = torch.ones_like(y, dtype=torch.bool)
        if box.is_bounded:
            reach = largest(box.project(y + steepest) - y).unsqueeze(-1)
            free = ~box.held(y, gradient, torch.minimum(reach, (box.upper - box.lower) / 4))
        matrix = torch.where(free.unsqueeze(-2), point.jacobian / scale.unsqueeze(-2), 0)
        right_side = point.residual
        rows, columns = matrix.shape[-2:]
        if rows > columns:
            orthogonal, matrix = torch.linalg.qr(matrix)
            right_side = (right_side.unsqueeze(-2) @ orthogonal).squeeze(-2)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        cutoff = max(rows, columns) * torch.finfo(y.dtype).eps * largest(values).unsqueeze(-1)
        values = torch.where(values > cutoff, values, 0)
        left = (right_side.unsqueeze(-2) @ left).squeeze(-2)
        return cls(left, values, right, scale, free, steepest)

    def step(self, damping: Tensor) -> Tensor:
        """argmin_p ‖r + J p‖² + λ ‖D p‖², ``(batch, m)``; for λ = 0 the solution with the smallest ‖D p‖."""
        square = self.values.square() + damping.unsqueeze(-1)
        weights = torch.where(self.values > 0, self.values / square, 0) * self.left
        step = -(weights.unsqueeze(-2) @ self.right).squeeze(-2) / self.scale
        return torch.where(self.free, step, self.rest / (1 + damping).unsqueeze(-1))
