"""Do the matrices of a node describe the same problem as its functions?

The functions see one problem, the matrices are made for a batch. So one problem is compared with its part of
a batch of two, the other being the same problem with changed inputs: what mixes the problems of a batch,
or is right for the first inputs only, shows; and so do derivatives that get lost on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddn.closures import first_problem
from ddn.errors import SignatureError, UndeclaredTensorError
from ddn.functional import isolated
from ddn.generic import generic_signs, generic_vector
from ddn.problem import Problem
from ddn.quadratic.data import QuadraticData
from ddn.quadratic.point import QuadraticPoint

__all__ = ["agrees"]

# Change of the inputs, relative to their size.
_CHANGE = 0.1


@isolated
def agrees(problem: Problem, operands: Sequence[Tensor]) -> bool:
    """Compare ``quadratic_program`` of a node with its other functions, for one problem and a similar one.

    Returns:
        Whether everything could be compared: not where something is infinite or NaN.

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
                f"{name}.quadratic_program depends on a tensor that requires grad but is neither an input "
                "nor a parameter of the node, so that it would get no gradient. Make it an input or a "
                "parameter, or use its .detach()."
            )
        comparable = _compare(problem, single, data, start)
        for index, (data, own) in enumerate(_pair(problem, single)):
            whole = _compare(problem, own, data, start)
            comparable = comparable and (whole or index > 0)
    return comparable


def _pair(
    problem: Problem, single: Sequence[Tensor]
) -> list[tuple[QuadraticData, Sequence[Tensor]]]:
    """Both problems of a batch of two: their matrices, and their operands."""
    changed = [_changed(operand) for operand in single[: problem.num_inputs]]
    captured = list(single[problem.num_inputs :])
    batch = [torch.stack(pair) for pair in zip(single, changed, strict=False)]
    try:
        data = problem.quadratic_program([*batch, *captured])
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return []  # outside of the domain of the hook
    return [
        (data.select(torch.tensor(index, device=data.q.device)), [*inputs, *captured])
        for index, inputs in enumerate((single[: problem.num_inputs], changed))
    ]


def _changed(operand: Tensor) -> Tensor:
    flat = operand.reshape(1, -1)
    finite = flat[flat.isfinite()]
    size = finite.abs().amax() if len(finite) else flat.new_zeros(())
    size = torch.where(size > 0, size, 1)
    change: Tensor = _CHANGE * size * generic_signs(flat, 1)
    if operand.ndim == 2 and operand.shape[0] == operand.shape[1]:
        # Symmetric matrices stay what they are, and definite ones nearly.
        change = change.reshape(operand.shape)
        return operand + change @ change.mT / size
    return operand + change.reshape(operand.shape)


def _compare(
    problem: Problem, operands: Sequence[Tensor], data: QuadraticData, start: Tensor
) -> bool:
    name = type(problem.node).__name__
    other = start + generic_signs(start)
    comparable = True
    for y in (start, other):
        for function, stated, matrices in _values(problem, operands, data, y, start):
            same, whole = _match(stated, matrices)
            comparable = comparable and whole
            if not same:
                raise SignatureError(
                    f"{name}.quadratic_program does not describe the same problem as {name}.{function}: "
                    "at a point where both can be compared they differ. Check the factor ½ of yᵀQy, the "
                    "signs and the order of the rows (A y = b, G y ≤ h, l ≤ y ≤ u), and that problems of a "
                    "batch are not mixed: its inputs are (*batch, ...), unlike those of other functions."
                )
    return _compare_derivatives(problem, operands, other, start) and comparable


def _values(
    problem: Problem, operands: Sequence[Tensor], data: QuadraticData, y: Tensor, start: Tensor
) -> list[tuple[str, Tensor, Tensor]]:
    """What functions and matrices say, by name of the function."""
    rows = _rows(data, y)
    p, k = data.num_equalities, data.num_inequalities
    change = problem.objective(y, operands) - problem.objective(start, operands)
    own = data.objective(y) - data.objective(start)
    named = "residual" if problem.has_residual else "objective"
    gradient = QuadraticPoint(data, y.unsqueeze(0), rows[None, : p + k] * 0).gradient.squeeze(0)
    stated, bound_rows = problem.inequality(y, operands), problem.num_bound_rows
    return [
        (named, problem.gradient(y, operands), gradient),
        (named, change.reshape(1), own.reshape(1)),
        ("equality", problem.equality(y, operands), rows[:p]),
        ("inequality", stated[: len(stated) - bound_rows], rows[p : p + k]),
        ("bounds", stated[len(stated) - bound_rows :], rows[p + k :]),
    ]


def _rows(data: QuadraticData, y: Tensor) -> Tensor:
    """A y − b, G y − h and bounds, for one problem."""
    sides = (y.unsqueeze(0), y.unsqueeze(0)) if data.has_bounds else (None, None)
    point = QuadraticPoint(data, y.unsqueeze(0), y.new_zeros(1, data.rows.shape[-2]), *sides)
    return point.constraints().squeeze(0)


def _match(first: Tensor, second: Tensor) -> tuple[bool, bool]:
    """Whether two vectors agree where both are finite, and whether all of them is."""
    if first.shape != second.shape:
        return False, True
    both = first.isfinite() & second.isfinite()
    # A bound that is infinite is a constant for the functions.
    absent = (second == -torch.inf) & (first == -1)
    first, second = first[both], second[both]
    limit = torch.finfo(first.dtype).eps ** 0.5
    if not len(first):
        return True, bool((both | absent).all())
    size = torch.maximum(first.abs().amax(), second.abs().amax())
    return bool((first - second).abs().amax() <= limit * size), bool((both | absent).all())


def _compare_derivatives(
    problem: Problem, operands: Sequence[Tensor], y: Tensor, start: Tensor
) -> bool:
    """The derivative of objective and constraints with respect to the operands, both ways."""
    leaves = [
        operand.detach().clone().requires_grad_(operand.is_floating_point()) for operand in operands
    ]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    data = problem.quadratic_program(leaves)
    ours = [data.objective(y) - data.objective(start), _rows(data, y)]
    stated = [
        problem.objective(y, leaves) - problem.objective(start, leaves),
        torch.cat([problem.equality(y, leaves), problem.inequality(y, leaves)]),
    ]
    for first, second in zip(stated, ours, strict=True):
        kept = first.isfinite() & second.isfinite()
        weight = generic_vector(kept.reshape(-1).to(y.dtype)).reshape(kept.shape)
        gradients = [
            _gradient((torch.where(kept, value, 0) * weight).sum(), wanted)
            for value in (first, second)
        ]
        for stated_gradient, own in zip(*gradients, strict=True):
            same, _ = _match(stated_gradient.reshape(-1), own.reshape(-1))
            if not same:
                name = type(problem.node).__name__
                raise SignatureError(
                    f"{name}.quadratic_program does not depend on the inputs and parameters as the other "
                    "functions do: its derivative differs. Make the matrices of them in differentiable torch "
                    "operations, without .detach(), torch.no_grad() or NumPy."
                )
    return True


def _gradient(value: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad(
            value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )
