"""Nodes inside the problem of another node: their derivatives must be exact.

The solver of the outer problem looks for the point where the gradient of its objective vanishes. Where that
gradient comes through an inner node that approximates it, another point is found, and nothing that is
computed from it would show that. So one problem of the outer node is evaluated with nothing but y
differentiated, and an inner node with an approximate gradient refuses to be part of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._C import _functorch

from ddn.closures import first_problem
from ddn.errors import DerivativeError
from ddn.functional import isolated, reverse
from ddn.problem import Problem

if TYPE_CHECKING:
    from ddn.node import DeclarativeNode

__all__ = ["guard_inner_gradients", "refuse_to_be_minimized_over"]

# While an outer node is looked through: its name, and the level of torch.func at which y is differentiated.
_outer: ContextVar[tuple[str, int] | None] = ContextVar("outer", default=None)


def guard_inner_gradients(problem: Problem, operands: Sequence[Tensor]) -> None:
    """Raise if the problem depends on its variables through a node whose gradient is an approximation.

    Looks once through every node, for inner nodes in lists and closures, and on every call through one that
    has such a node among its submodules.

    Raises:
        DerivativeError: naming the inner node.
    """
    node = problem.node
    if _outer.get() is not None:
        return
    suspicious = not node._inner_looked_through
    if not suspicious and next(node.children(), None) is not None:
        suspicious = any(_approximates(module) for module in node.modules() if module is not node)
    if suspicious:
        _look(problem, *operands)
        node._inner_looked_through = True


def refuse_to_be_minimized_over(node: DeclarativeNode, operands: Sequence[Tensor]) -> None:
    """Raise if an outer node is looked through and depends on its variables through this one."""
    looking = _outer.get()
    if looking is None or not _approximates(node):
        return
    outer, level = looking
    if any(_depends(operand, level) for operand in operands):
        raise DerivativeError(
            f"{outer} minimizes over the input of {type(node).__name__}, whose gradient "
            f"({type(node.gradient).__name__}) is an approximation: the solver would find a point where that "
            "vanishes, which is not the minimum. Give the inner node the exact "
            "gradient=ddn.ImplicitGradient(), the default, or .detach() its input."
        )


def _approximates(module: nn.Module) -> bool:
    gradient = getattr(module, "gradient", None)
    if getattr(gradient, "is_exact", True) is not False:
        return False
    # Smoothing changes nothing without inequalities.
    states_inequalities = any(getattr(module, name, None) for name in ("inequality", "bounds"))
    return not getattr(gradient, "smoothing", 0) or states_inequalities


def _depends(operand: Tensor, level: int) -> bool:
    """Whether y, which is differentiated at the level, has gone into the tensor."""
    # At a level all tensors are wrapped, but only what depends on y requires grad there.
    wrapped = _functorch.is_gradtrackingtensor(operand)
    return bool(wrapped and operand.requires_grad and _functorch.maybe_get_level(operand) >= level)


@isolated
def _look(problem: Problem, *operands: Tensor) -> None:
    """Evaluate one problem with nothing but y differentiated."""
    with torch.inference_mode(False), torch.enable_grad():
        y, single = first_problem(problem, operands)

        def look(y: Tensor) -> tuple[Tensor, ...]:
            level = _functorch.maybe_current_level() or 0
            token = _outer.set((type(problem.node).__name__, level))
            try:
                functions = (problem.objective, problem.equality, problem.inequality)
                return tuple(function(y, single) for function in functions)
            finally:
                _outer.reset(token)

        reverse(look, y)
