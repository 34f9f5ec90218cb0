"""When is a gradient to be trusted? The hypotheses of the implicit function theorem, measured.

The derivative of a solution exists and is what the KKT system says if the point is a solution (stationary
and feasible, with multipliers of the right sign), the gradients of the active constraints are linearly
independent (LICQ), the Hessian of the Lagrangian is positive definite on their null space (second-order
sufficiency), and no constraint is weakly active (strict complementarity): Fiacco (1976), Theorem 2.1. The
condition number says how many digits are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ddn.failure import format_indices
from ddn.solution import Status

__all__ = ["Certificate"]


@dataclass(frozen=True)
class Certificate:
    """What decides whether the gradient of each problem can be trusted; ``print`` it to read it.

    All fields are ``(*batch,)``; residuals are relative (:mod:`ddn.optimality`), and everything else
    is of the equilibrated system, so that no field depends on units.

    Attributes:
        status: of the solve, integers of :class:`ddn.Status`.
        stationarity: residual of ∇_y L = 0.
        primal_feasibility: residual of h = 0 and g ≤ 0.
        dual_feasibility: residual of ν ≥ 0.
        complementarity: residual of ν_i = 0 or g_i = 0.
        linear_residual: of the linear solve for a generic cotangent; infinite where it failed.
        num_active: constraints that are held: equalities and active inequalities.
        num_weakly_active: inequalities whose multiplier and slack both vanish.
        rank: of the Jacobian of the active constraints.
        curvature: smallest eigenvalue of the Hessian of L on the null space of that Jacobian, relative
            to the size of the Hessian; infinite where the constraints leave nothing free, not positive
            where it is not resolved (a minimum of higher order).
        condition: condition number of the KKT matrix, infinite where it is singular.
        name: of the node.
    """

    status: Tensor
    stationarity: Tensor
    primal_feasibility: Tensor
    dual_feasibility: Tensor
    complementarity: Tensor
    linear_residual: Tensor
    num_active: Tensor
    num_weakly_active: Tensor
    rank: Tensor
    curvature: Tensor
    condition: Tensor
    name: str

    @property
    def optimal(self) -> Tensor:
        """Stationary, with multipliers of the right sign, complementary to the slacks."""
        residual = torch.stack([self.stationarity, self.dual_feasibility, self.complementarity])
        return (residual <= self._accurate).all(0) & (self.status == Status.CONVERGED)

    @property
    def feasible(self) -> Tensor:
        """All constraints hold."""
        return self.primal_feasibility <= self._accurate

    @property
    def independent_constraints(self) -> Tensor:
        """The gradients of the active constraints are linearly independent (LICQ)."""
        return self.rank == self.num_active

    @property
    def strict_minimum(self) -> Tensor:
        """Second-order sufficiency: the curvature of L is positive in all free directions."""
        return self.curvature > self._negligible

    @property
    def strictly_complementary(self) -> Tensor:
        """No constraint is weakly active: the solution has no kink here, nor very near."""
        return self.num_weakly_active == 0

    @property
    def well_conditioned(self) -> Tensor:
        """At least half of the digits of the dtype are left in the gradient."""
        return (self.condition <= 1 / self._negligible) & (self.linear_residual <= self._accurate)

    @property
    def trustworthy(self) -> Tensor:
        """All of the above: the gradient is the derivative of the solution."""
        result = torch.ones_like(self.status, dtype=torch.bool)
        for flag, _ in _FLAGS.values():
            result = result & flag(self)
        return result

    def __str__(self) -> str:
        count = self.status.numel()
        good = int(self.trustworthy.sum())
        lines = [
            f"Certificate of {self.name}: the gradient can be trusted in {good} of {count} problem(s)"
        ]
        for title, (flag, advice) in _FLAGS.items():
            missing = ~flag(self)
            if bool(missing.any()):
                lines += [f"  NOT {title}: {format_indices(missing)}", f"      {advice}"]
        width = max(len(field.name) for field in fields(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                lines.append(f"  {field.name:{width}}  {_range(field.name, value)}")
        return "\n".join(lines)

    @property
    def _accurate(self) -> float:
        return float(torch.finfo(self.stationarity.dtype).eps ** 0.375)

    @property
    def _negligible(self) -> float:
        return float(torch.finfo(self.stationarity.dtype).eps ** 0.5)


_FLAGS: dict[str, tuple[Callable[[Certificate], Tensor], str]] = {
    "optimal": (
        lambda c: c.optimal,
        "The point is no solution: its gradient is that of something else. See `status`; tighten the "
        "solver, or start it elsewhere.",
    ),
    "feasible": (
        lambda c: c.feasible,
        "The point violates its constraints: there may be no feasible point.",
    ),
    "independent constraints (LICQ)": (
        lambda c: c.independent_constraints,
        "Active constraints repeat each other: multipliers are not unique, and the solution may jump when "
        "they move apart. State every constraint once (ddn.symmetric for symmetric matrices).",
    ),
    "strict minimum": (
        lambda c: c.strict_minimum,
        "The objective is flat or falls in some free direction: the solution is not unique, or no minimum. "
        "Add a proximal term.",
    ),
    "strictly complementary": (
        lambda c: c.strictly_complementary,
        "Weakly active constraints: the solution has a kink here or very near, and the gradient is "
        "one-sided. ddn.ImplicitGradient(smoothing=...) gives a smooth one.",
    ),
    "well conditioned": (
        lambda c: c.well_conditioned,
        "Less than half of the digits of the gradient can be trusted. Use float64, or rescale the problem.",
    ),
}


def _range(name: str, value: Tensor) -> str:
    if name == "status":
        return ", ".join(sorted({Status(code).name for code in value.flatten().tolist()}))
    low, high = float(value.min()), float(value.max())
    if not value.is_floating_point():
        return f"{int(low)}" if low == high else f"{int(low)} … {int(high)}"
    return f"{low:.1e}" if low == high else f"{low:.1e} … {high:.1e}"
