"""Random quadratic programs, and their solution by an independent solver."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

__all__ = ["Program", "random_program", "reference"]

Program = dict[str, Tensor]


def random_program(
    batch: tuple[int, ...],
    n: int,
    p: int = 0,
    k: int = 0,
    bounds: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Program:
    """Strictly convex, with a strictly feasible point; inputs of ``QuadraticProgram`` by name."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    factor, inside = normal(n, n), normal(n)
    program = {
        "Q": factor @ factor.mT / n + 0.1 * torch.eye(n, dtype=torch.float64),
        "q": normal(n),
    }
    if p:
        program["A"] = normal(p, n)
        program["b"] = (program["A"] @ inside.unsqueeze(-1)).squeeze(-1)
    if k:
        program["G"] = normal(k, n)
        program["h"] = (program["G"] @ inside.unsqueeze(-1)).squeeze(-1) + normal(k).abs()
    if bounds:
        program["lower"] = inside - normal(n).abs() - 0.01
        program["upper"] = inside + normal(n).abs() + 0.01
    return {name: value.to(dtype) for name, value in program.items()}


def reference(**parts: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """Solution and multipliers of one problem by CVXPY and Clarabel."""
    y = cp.Variable(parts["q"].shape[0])
    quadratic = (parts["Q"] + parts["Q"].T) / 2
    objective = parts["q"] @ y
    if np.any(quadratic):
        objective = objective + 0.5 * cp.quad_form(y, cp.psd_wrap(quadratic))
    constraints = []
    if "A" in parts:
        constraints.append(parts["A"] @ y == parts["b"])
    if "G" in parts:
        constraints.append(parts["G"] @ y <= parts["h"])
    if "lower" in parts:
        constraints.append(y >= parts["lower"])
    if "upper" in parts:
        constraints.append(y <= parts["upper"])
    problem = cp.Problem(cp.Minimize(objective), constraints)
    accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
    problem.solve(solver=cp.CLARABEL, **accuracy)
    return y.value, [constraint.dual_value for constraint in constraints]
