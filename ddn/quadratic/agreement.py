"""Do the matrices of a node describe the same problem as its functions?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddn.closures import first_problem
from ddn.errors import SignatureError, UndeclaredTensorError
from ddn.functional import isolated
from ddn.generic import generic_signs
from ddn.optimality import largest
from ddn.problem import Problem
from ddn.quadratic.data import QuadraticData
from ddn.quadratic.point import QuadraticPoint

__all__ = ["require_agreement"]


@isolated
def require_agreement(problem: Problem, operands: Sequence[Tensor]) -> None:
    """Compare ``quadratic_program`` of a node with its other functions, at two points of the first problem.

    Raises:
        SignatureError: naming the function that says something else.
        UndeclaredTensorError: the matrices depend on a tensor that requires grad and is not declared.
    """
    with torch.inference_mode(False), torch.enable_grad():
        start, single = first_problem(problem, operands)
        data = problem.quadratic_program(single)
    name = type(problem.node).__name__
    if any(value.requires_grad for value in data.parts().values()):
        raise UndeclaredTensorError(
            f"{name}.quadratic_program depends on a tensor that requires grad but is neither an input nor a "
            "parameter of the node, so that it would get no gradient. Make it an input or a parameter, or "
            "use its .detach()."
        )
    with torch.no_grad():
        other = start + generic_signs(start)
        for y in (start, other):
            for function, stated, matrices in _values(problem, single, data, y, start):
                if _differ(stated, matrices):
                    raise SignatureError(
                        f"{name}.quadratic_program does not describe the same problem as {name}.{function}: "
                        "at a point where both can be compared they differ. Check the factor ½ of yᵀQy, the "
                        "signs and the order of the rows (A y = b, G y ≤ h, l ≤ y ≤ u)."
                    )


def _values(
    problem: Problem, operands: Sequence[Tensor], data: QuadraticData, y: Tensor, start: Tensor
) -> list[tuple[str, Tensor, Tensor]]:
    """What functions and matrices say, by name of the function."""
    batched = data.map(lambda value: value)
    point = QuadraticPoint(batched, y.unsqueeze(0), y.new_zeros(1, 0))
    bounds = (point.y, point.y) if data.has_bounds else (None, None)
    point = QuadraticPoint(batched, point.y, point.rows, *bounds)
    rows = point.constraints().squeeze(0)
    p, k = data.num_equalities, data.num_inequalities
    change = problem.objective(y, operands) - problem.objective(start, operands)
    own = data.objective(y) - data.objective(start)
    named = "residual" if problem.has_residual else "objective"
    result = [
        (named, problem.gradient(y, operands), point.gradient.squeeze(0)),
        (named, change.reshape(1), own.reshape(1)),
        ("equality", problem.equality(y, operands), rows[:p]),
    ]
    stated = problem.inequality(y, operands)
    bound_rows = problem.num_bound_rows
    result.append(("inequality", stated[: len(stated) - bound_rows], rows[p : p + k]))
    result.append(("bounds", stated[len(stated) - bound_rows :], rows[p + k :]))
    return result


def _differ(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return True
    if not bool(first.isfinite().all()):
        return False
    limit = torch.finfo(first.dtype).eps ** 0.5
    size = torch.maximum(largest(first), largest(second))
    return bool((largest(first - second) > limit * size).any())
