"""Are the constraints of a quadratic program contradictory?

The violation of A y = b and G y ≤ h, least in the sense of squares,

    argmin_{y,e,t}  ½ ‖e‖² + ½ ‖t‖² + ½ δ ‖y‖²   subject to   A y − e = b,   G y − t ≤ h,   l ≤ y ≤ u,

is a strictly convex quadratic program, with a solution unless bounds contradict each other. There v = (e, t)
are multipliers, with w_l and w_u of the bounds, and

    Aᵀe + Gᵀt − w_l + w_u = −δ y,        bᵀe + hᵀt − lᵀw_l + uᵀw_u = −δ ‖y‖² − ‖v‖².

Weighted by them, the constraints say of every feasible ȳ that yᵀȳ ≥ ‖y‖² + ‖v‖²/δ: it is no shorter than
‖v‖²/(δ ‖y‖). For δ → 0 that is the lemma of Farkas (1902).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddn.quadratic.data import QuadraticData
from ddn.quadratic.finish import resumed
from ddn.quadratic.mehrotra import predictor_corrector
from ddn.quadratic.point import QuadraticPoint, generic_start
from ddn.quadratic.scaled import ScaledProgram

__all__ = ["are_infeasible"]

# Powers of ε: δ, beside rows of unit length, and the length beyond which no feasible point is looked for, in
# units of the data.
_PROXIMAL, _FARTHEST = 2 / 3, -1 / 2
_MAX_ITERATIONS = 50


def are_infeasible(data: QuadraticData, size: int) -> Tensor:
    """Where constraints are shown to be contradictory, ``(size,)``; false where nothing is shown.

    Args:
        data: one batch dimension or none.
        size: number of problems.
    """
    lower, upper = data.bounds
    contradictory = ((lower > upper) | (lower == torch.inf) | (upper == -torch.inf)).any(-1)
    result = contradictory.expand(size).clone()
    program = ScaledProgram.of(data, size)
    rows = data.rows.shape[-2]
    if not rows:
        return result
    elastic = _elastic(program)
    eps = torch.finfo(data.q.dtype).eps
    # The unknowns have unit size already.
    unit = torch.ones_like(program.length)
    scaled = ScaledProgram(elastic, unit, unit, unit.new_ones(rows), program.finite, size)
    y, multipliers, _, _ = predictor_corrector(scaled, _MAX_ITERATIONS, eps**0.4)
    point, solved, _ = resumed(QuadraticPoint.of(elastic, y, multipliers), generic_start(y))
    n = data.num_variables
    length = torch.linalg.vector_norm(point.y[:, :n], dim=-1)
    violation = torch.linalg.vector_norm(point.y[:, n:], dim=-1)
    nearest = violation.square() / (eps**_PROXIMAL * length)
    shown: Tensor = solved & program.finite & ~contradictory & (nearest > eps**_FARTHEST)
    return result | shown


def _elastic(program: ScaledProgram) -> QuadraticData:
    data, n, p = program.data, program.data.num_variables, program.data.num_equalities
    k = data.num_inequalities
    proximal = torch.finfo(data.q.dtype).eps ** _PROXIMAL
    weight = torch.cat([data.q.new_full((n,), proximal), data.q.new_ones(p + k)])
    rows = data.rows
    slack = -torch.eye(p + k, dtype=rows.dtype, device=rows.device)
    slack = slack.expand(*rows.shape[:-2], p + k, p + k)
    rows = torch.cat([rows, slack], -1)
    absent = data.q.new_full((*data.bounds[0].shape[:-1], p + k), torch.inf)
    bounds = {}
    if data.has_bounds:
        lower, upper = data.bounds
        bounds = {
            "lower": torch.cat([lower, -absent], -1),
            "upper": torch.cat([upper, absent], -1),
        }
    return QuadraticData(
        torch.diag(weight),
        data.q.new_zeros(n + p + k),
        rows[..., :p, :],
        data.right[..., :p],
        rows[..., p:, :],
        data.right[..., p:],
        **bounds,
    )
