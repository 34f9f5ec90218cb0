"""Nodes inside the problem of another node: their derivatives must be exact.

The solver of the outer problem looks for the point where the gradient of its objective vanishes. Where that
gradient comes through an inner node that approximates it, another point is found, and nothing that is
computed from it would show that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddn.closures import bare
from ddn.errors import DerivativeError
from ddn.functional import isolated
from ddn.problem import Problem

__all__ = ["guard_inner_gradients"]


def guard_inner_gradients(problem: Problem, operands: Sequence[Tensor]) -> None:
    """Raise if the problem depends on its variables through a node whose gradient is an approximation.

    Raises:
        DerivativeError: naming the inner node.
    """
    if next(problem.node.children(), None) is None:
        return
    inner = [module for module in problem.node.modules() if not _is_exact(module)]
    inner = [module for module in inner if module is not problem.node]
    if inner:
        _look(problem, inner, *operands)


def _is_exact(module: nn.Module) -> bool:
    return getattr(getattr(module, "gradient", None), "is_exact", True) is not False


@isolated
def _look(problem: Problem, inner: Sequence[nn.Module], *operands: Tensor) -> None:
    """Evaluate one problem with nothing but y differentiated, and see what reaches the inner nodes."""
    single = [
        value[(0,) * (value.ndim - rank)]
        for value, rank in zip(map(bare, operands), problem.core_ranks, strict=True)
    ]
    y = bare(problem.starting_point(single)).requires_grad_()

    def raise_if_differentiated(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if any(isinstance(value, Tensor) and value.requires_grad for value in inputs):
            gradient = type(module.gradient).__name__
            raise DerivativeError(
                f"{type(problem.node).__name__} minimizes over the input of {type(module).__name__}, whose "
                f"gradient ({gradient}) is an approximation: the solver would find a point where that "
                "vanishes, which is not the minimum. Give the inner node the exact "
                "gradient=ddn.ImplicitGradient(), the default, or .detach() its input."
            )

    hooks = [module.register_forward_pre_hook(raise_if_differentiated) for module in inner]
    try:
        with torch.enable_grad():
            for function in (problem.objective, problem.equality, problem.inequality):
                function(y, single)
    finally:
        for hook in hooks:
            hook.remove()
