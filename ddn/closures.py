"""Does a problem depend on anything that it does not declare?

A tensor that a node's functions close over would get no gradient (no tangent, no mapped dimension) without
a word. One problem of the batch is evaluated on bare values; whatever still carries derivative information
comes from outside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd import forward_ad

from ddn.errors import UndeclaredTensorError
from ddn.functional import isolated
from ddn.problem import Problem

__all__ = ["first_problem", "guard_undeclared"]


@isolated
def guard_undeclared(problem: Problem, operands: Sequence[Tensor]) -> None:
    """Raise if the objective or a constraint depends on an undeclared tensor that is differentiated.

    Raises:
        UndeclaredTensorError: naming the function.
    """
    y, single = first_problem(problem, operands)
    functions = (
        ("objective", problem.objective),
        ("equality", problem.equality),
        ("inequality", problem.inequality),
    )
    for name, function in functions:
        if _is_differentiated(function(y, single)):
            raise UndeclaredTensorError(
                f"{type(problem.node).__name__}.{_stated(problem, name)} depends on a tensor that "
                "requires grad (or is differentiated or mapped by a transform) but is neither an input nor a "
                "parameter of the node, so that it would get no gradient. Add it to the signature and "
                "pass it as an input, register it as an nn.Parameter, or use its .detach()."
            )


def first_problem(problem: Problem, operands: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Starting point and operands of the first problem of the batch, as bare values."""
    single = [
        value[(0,) * (value.ndim - rank)]
        for value, rank in zip(map(_bare, operands), problem.core_ranks, strict=True)
    ]
    return _bare(problem.starting_point(single)), single


def _stated(problem: Problem, name: str) -> str:
    """Where the user finds it: bounds are rows of the inequality, too."""
    if name == "inequality" and problem.node.inequality is None:
        return "bounds"
    return "residual" if name == "objective" and problem.has_residual else name


def _bare(tensor: Tensor) -> Tensor:
    """The values of ``tensor``, free of every level of differentiation and mapping."""
    mapped = []
    with torch._C._DisableFuncTorch():
        while _functorch.is_functorch_wrapped_tensor(tensor):
            if _functorch.is_batchedtensor(tensor):
                mapped.append(_functorch.maybe_get_bdim(tensor))
            tensor = _functorch.get_unwrapped(tensor)
        # A mapped dimension is counted among those of the next tensor within: innermost first.
        for dim in reversed(mapped):
            tensor = tensor.select(dim, 0)
        with forward_ad._set_fwd_grad_enabled(False):
            return tensor.detach().clone()


def _is_differentiated(value: Tensor) -> bool:
    if value.requires_grad or _has_tangent(value):
        return True
    with torch._C._DisableFuncTorch():
        while _functorch.is_functorch_wrapped_tensor(value):
            if _functorch.is_batchedtensor(value):
                return True
            value = _functorch.get_unwrapped(value)
            if value.requires_grad or _has_tangent(value):
                return True
    return False


def _has_tangent(value: Tensor) -> bool:
    if forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(value).tangent is not None
