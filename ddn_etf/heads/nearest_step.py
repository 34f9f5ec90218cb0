"""The derivative of one training step of a nearest head, in closed form from features to frame.

With Y and μ of :class:`ddn_etf.average_step.AverageStep` and V* of the head's node, features H (N, d)
become

    Y, μ = means(H),   V* = node(Y, V_prox),

and backwards

    Ȳ = node.vjp(V̄),   H̄ = means.pull_back(Ȳ, μ̄).

Autograd finds the same from the single operations. But these are many and small, and with ten classes
the record of them takes longer than they do. So that way is left to where more than a first derivative
is asked for, and to the transforms of ``torch.func``, forward mode and the compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddn.captured import PlainAttributes
from ddn_etf._buffers import full_precision

if TYPE_CHECKING:
    from ddn_etf.average_step import AverageStep
    from ddn_etf.nearest import NearestFrame

__all__ = ["NearestStep"]


class NearestStep(torch.autograd.Function):
    """H ↦ V* (d, r), μ (d,), for a step that was made already: it is passed in, and differentiated here.

    The step itself changes the state of the head, and may fail.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        node: NearestFrame,
        step: AverageStep,
        proximal: Tensor,
        means: Tensor,
        global_mean: Tensor,
        factor: Tensor,
        *saved: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """V* and μ, as they were found."""
        tensors = step.tensors()
        ctx.node, ctx.step, ctx.of_step = node, step.without_tensors(), len(tensors)
        # A schedule may change them before the backward pass.
        ctx.attributes = PlainAttributes.of(node)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, proximal, means, factor, *tensors, *saved)
        # The same numbers as new tensors: what is passed in cannot be what comes out.
        return factor.view_as(factor), global_mean.view_as(global_mean)

    @staticmethod
    def backward(
        ctx: Any, grad_factor: Tensor | None, grad_mean: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """H̄ from V̄ and μ̄, where None is zero."""
        features, proximal, means, factor, *rest = ctx.saved_tensors
        step, saved = ctx.step.with_tensors(rest[: ctx.of_step]), rest[ctx.of_step :]
        nothing = (None,) * (6 + len(saved))
        with ctx.attributes.held(), full_precision(factor.device):
            if torch.is_grad_enabled():
                # By another name, so that hooks of the features are not called for this as well.
                given = features.view_as(features)
                Y, mean = step.means(given.to(means.dtype))
                V = factor if grad_factor is None else ctx.node(Y, proximal)
                found = [(V, grad_factor), (mean, grad_mean)]
                outputs, cotangents = zip(*(p for p in found if p[1] is not None), strict=True)
                (gradient,) = torch.autograd.grad(outputs, given, cotangents, create_graph=True)
                return gradient, *nothing
            if grad_mean is None:
                grad_mean = means.new_zeros(means.shape[0])
            grad_means = None
            if grad_factor is not None:
                grad_means, _ = ctx.node.vjp((means, proximal), factor, grad_factor, *saved)
            gradient = step.pull_back(means, grad_means, grad_mean)
        return gradient.to(features.dtype), *nothing
