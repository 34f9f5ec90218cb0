"""A batch of problems in float64 on CPU, and the units of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.generic import generic_signs
from ddn.lagrangian import Lagrangian
from ddn.optimality import largest
from ddn.problem import Problem
from ddn.solvers.barrier.program import NodeProgram, fixed_variables
from ddn.solvers.barrier.start import in_units_of_the_data
from ddn.solvers.minimize.single import Frame

__all__ = ["ProblemBatch"]

_MAX_STRETCHED = 500


@dataclass(frozen=True)
class ProblemBatch:
    """Problems with one batch dimension.

    Attributes:
        problem: the problem of the node.
        operands: as :meth:`ddn.problem.Problem.flatten_batch` prepares them.
        bounds: lower and upper, infinite where there is none, ``(batch, 2, m)``.
    """

    problem: Problem
    operands: list[Tensor]
    bounds: Tensor

    @classmethod
    def of(cls, problem: Problem, operands: Sequence[Tensor]) -> ProblemBatch:
        """The same problems in float64 on CPU, whatever their dtype and device."""
        moved = [operand.detach().cpu() for operand in operands]
        moved = [operand.double() if operand.is_floating_point() else operand for operand in moved]
        flat = problem.flatten_batch(moved)
        size, m = problem.batch_shape(moved).numel(), problem.num_variables
        if problem.has_bounds:
            bounds = torch.stack(problem.bounds(flat), -2).expand(size, 2, m)
            fixed = fixed_variables(bounds).unsqueeze(-2)
            bounds = torch.where(fixed, bounds[:, :1], bounds)
        else:
            infinite = torch.tensor([[-torch.inf], [torch.inf]], dtype=torch.float64)
            bounds = infinite.expand(size, 2, m)
        return cls(problem, flat, bounds)

    def select(self, index: Tensor) -> ProblemBatch:
        """Some problems of the batch."""
        return ProblemBatch(
            self.problem, self.problem.select(self.operands, index), self.bounds[index]
        )

    def empty(self) -> Tensor:
        """Where the bounds leave no point, ``(batch,)``."""
        lower, upper = self.bounds.unbind(-2)
        return ((lower > upper) | (lower == torch.inf) | (upper == -torch.inf)).any(-1)

    def clamp(self, y: Tensor) -> Tensor:
        """The nearest point within the bounds."""
        return torch.minimum(torch.maximum(y, self.bounds[:, 0]), self.bounds[:, 1])

    def stretched(self, y: Tensor) -> Tensor:
        """The generic point in units of the data, where that takes no more than a small Hessian."""
        if y.shape[-1] > _MAX_STRETCHED:
            return y
        bounds = self.bounds if self.problem.has_bounds else None
        return in_units_of_the_data(NodeProgram(self.problem, self.operands, bounds, y), y)

    # -- units ----------------------------------------------------------------------------------

    def frames(self, y: Tensor, far: Tensor) -> list[Frame | None]:
        """Units of every problem from its data at y ``(batch, m)``; None where these are not finite.

        The length is that of y, of a Newton step where constraints let it, and of the way to the
        constraints; the force is ∇f, or its change over this length.

        Args:
            y: the points.
            far: those that have left the scale of their problem, where curvature in some variables would
                dwarf the force that drives others, ``(batch,)``.
        """
        problem, operands = self.problem, self.operands
        values = problem.constraints(y, operands)
        objective = problem.objective(y, operands)
        gradient = problem.gradient(y, operands)
        jacobian = problem.stated_jacobian(y, operands)
        curvature = self._curvature(y, values)
        q = problem.num_inequalities(y, operands)
        p = values.shape[-1] - q
        stated = values[:, : jacobian.shape[-2]]
        norms = torch.linalg.vector_norm(jacobian, dim=-1)
        distance = torch.where(norms > 0, stated / norms, 0)
        newton = torch.where(curvature > 0, largest(gradient) / curvature, 0)
        ways = torch.cat([distance[:, p:], self.past_bounds(y)], -1)
        room = torch.where(ways < 0, -ways, torch.nan)
        if room.shape[-1]:
            newton = torch.minimum(newton, room.nanmedian(-1).values.nan_to_num(torch.inf))
        extents = [largest(y), newton, largest(distance[:, :p]), largest(ways.clamp_min(0))]
        length = torch.stack(extents).amax(0)
        length = torch.where(length > 0, length, 1)
        steepest = largest(gradient)
        force = torch.maximum(steepest, curvature * length)
        force = torch.where(far & (steepest > 0), steepest, force)
        force = torch.where(force > 0, force, 1)
        rows = norms * length.unsqueeze(-1)
        rows = torch.where(rows > 0, rows, stated.abs())
        rows = torch.where(rows > 0, rows, 1)
        finite = torch.stack([objective, length, force, length * force]).isfinite().all(0)
        for part in (y, values, gradient, jacobian.flatten(1)):
            finite = finite & part.isfinite().all(-1)
        finite = finite & ~self.bounds.isnan().flatten(1).any(-1)
        free = (self.bounds[:, 0] != self.bounds[:, 1]).numpy()
        return [
            Frame(
                y=y[i].numpy(),
                free=free[i],
                length=float(length[i]),
                force=float(force[i]),
                rows=rows[i].numpy(),
                offset=float(objective[i]),
                lower=self.bounds[i, 0].numpy()[free[i]],
                upper=self.bounds[i, 1].numpy()[free[i]],
                num_equalities=p,
            )
            if bool(finite[i])
            else None
            for i in range(len(y))
        ]

    def _curvature(self, y: Tensor, constraints: Tensor) -> Tensor:
        """‖∇²f d‖_∞ for signs d: by how much ∇f changes over a unit length, ``(batch,)``."""
        nothing = torch.zeros_like(constraints)
        q = self.problem.num_inequalities(y, self.operands)
        active = torch.ones_like(constraints[:, constraints.shape[-1] - q :], dtype=torch.bool)
        product, _ = Lagrangian(self.problem).kkt_product(
            y, nothing, active, self.operands, (generic_signs(y), nothing)
        )
        return largest(product).nan_to_num(0, 0, 0)

    def past_bounds(self, y: Tensor) -> Tensor:
        """How far y is past its bounds, negative inside; zero where there is none, ``(batch, 2m)``."""
        signs = y.new_tensor([-1.0, 1.0]).unsqueeze(-1)
        finite = self.bounds.isfinite()
        past = signs * (y.unsqueeze(-2) - torch.where(finite, self.bounds, 0))
        return torch.where(finite, past, 0).flatten(-2)
