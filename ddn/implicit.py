"""Differentiating a solution through its optimality conditions.

At a regular solution z = (y, μ) of the problem with operands x, F(x, z) = ∇_z L(x, z) = 0 with the
Lagrangian of the active set (:mod:`ddn.lagrangian`), and the implicit function theorem gives
dz = −K⁻¹ ∂_x F dx with the symmetric K = ∂_z F = ∇²_z L. Hence, for cotangents z̄ of the solution,

    w = −K⁻¹ z̄        and        x̄ = ∂/∂x ⟨w, ∇_z L(x, z)⟩     — ONE reverse pass.

The mixed derivative ∂_x F is never formed. The multipliers are outputs like y, so that their gradients
come for free and the second derivative of y sees how they move. The solution w of the linear system is
a function with the same structure: with  w = K(x, z)⁻¹ r,

    r̄ = K⁻¹ w̄,        (x̄, z̄) = −∂/∂(x, z) ⟨r̄, K(x, z) w⟩,

again one reverse pass. Two functions that refer to each other give derivatives of every order, in
reverse and in forward mode, under ``vmap`` and ``torch.func``. (Krantz and Parks 2013, ch. 3;
Gould, Hartley and Campbell 2021, Prop. 4.6, for the first order.)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ddn.batching import align_mapped_dimensions
from ddn.errors import DerivativeError
from ddn.forward_mode import directional_derivative, own_memory, saved_primals
from ddn.functional import gradient, is_transformed, isolated, refuse_legacy_vmap
from ddn.kkt.system import KKTSystem

if TYPE_CHECKING:
    from ddn.lagrangian import Lagrangian

__all__ = ["Engine", "KKTSolve", "StationaryPoint", "pull_back"]


class Engine(Protocol):
    """What the two functions need: the Lagrangian, its stationary point, and the linear system."""

    lagrangian: Lagrangian
    first_order_only: bool
    on_failure: str

    def solve(self, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """y ``(*batch, m)``, μ ``(*batch, p + q)``, active ``(*batch, q)`` and diagnostics."""

    def solve_kkt(
        self,
        right_y: Tensor,
        right_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        operands: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """(u, s) with K (u, s) = (right_y, right_multipliers)."""

    def pull_back(
        self,
        grad_y: Tensor,
        grad_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        operands: Sequence[Tensor],
        needed: Sequence[int],
    ) -> dict[int, Tensor] | None:
        """Gradients of operands as constants; None where that takes the general way."""


class StationaryPoint(torch.autograd.Function):
    """x ↦ (y, μ), the active set, and diagnostics that carry no derivative."""

    @staticmethod
    @isolated
    def forward(engine: Engine, *operands: Tensor) -> tuple[Tensor, ...]:
        return own_memory(engine.solve(operands))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.engine, *operands = inputs
        y, multipliers, active, *_ = output
        ctx.num_constant = len(output) - 2
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(y, multipliers, active, *operands)
        ctx.save_for_forward(y, multipliers, active, *operands)

    @staticmethod
    @isolated
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        refuse_legacy_vmap(type(ctx.engine.lagrangian.problem.node).__name__, cotangents)
        y, multipliers, active, *operands = ctx.saved_tensors
        needed = [i for i, need in enumerate(ctx.needs_input_grad[1:]) if need]
        with _as_solved(ctx):
            gradients = pull_back(
                ctx.engine, cotangents[:2], y, multipliers, active, operands, needed
            )
        return (None, *gradients)

    @staticmethod
    @isolated
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        with _as_solved(ctx), saved_primals(ctx) as (y, multipliers, active, *operands):
            lagrangian: Lagrangian = ctx.engine.lagrangian
            moving = [i for i, tangent in enumerate(tangents) if tangent is not None]

            def conditions(*differentiated: Tensor) -> tuple[Tensor, Tensor]:
                moved = _replace(operands, moving, differentiated)
                return lagrangian.stationarity(y, multipliers, active, moved)

            change_y, change_multipliers = directional_derivative(
                conditions, [operands[i] for i in moving], [t for t in tangents if t is not None]
            )
            tangent_y, tangent_multipliers = KKTSolve.apply(
                ctx.engine, -change_y, -change_multipliers, y, multipliers, active, *operands
            )
        return (tangent_y, tangent_multipliers, *(None,) * ctx.num_constant)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], engine: Engine, *operands: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        aligned = align_mapped_dimensions(
            operands, in_dims[1:], engine.lagrangian.problem.core_ranks
        )
        outputs = StationaryPoint.apply(engine, *aligned)
        return outputs, (0,) * len(outputs)


class KKTSolve(torch.autograd.Function):
    """(r, x, z) ↦ w with K(x, z) w = r, both split into the parts of y and λ."""

    @staticmethod
    @isolated
    def forward(
        engine: Engine,
        right_y: Tensor,
        right_multipliers: Tensor,
        y: Tensor,
        multipliers: Tensor,
        active: Tensor,
        *operands: Tensor,
    ) -> tuple[Tensor, Tensor]:
        u, s = own_memory(
            engine.solve_kkt(right_y, right_multipliers, y, multipliers, active, operands)
        )
        return u, s

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.engine, _, _, *point = inputs
        ctx.save_for_backward(*output, *point)
        ctx.save_for_forward(*output, *point)

    @staticmethod
    @isolated
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        refuse_legacy_vmap(type(ctx.engine.lagrangian.problem.node).__name__, cotangents)
        _require_exact(ctx.engine)
        u, s, *point = ctx.saved_tensors
        needed = [i for i, need in enumerate(ctx.needs_input_grad[3:]) if need]
        result: list[Tensor | None] = [None] * len(point)
        with _as_solved(ctx):
            w, t = KKTSolve.apply(ctx.engine, *cotangents, *point)
            if needed:

                def pairing(*differentiated: Tensor) -> Tensor:
                    moved = _replace(point, needed, differentiated)
                    product_y, product_multipliers = _kkt_product(ctx.engine, moved, u, s)
                    total: Tensor = -(w * product_y).sum() - (t * product_multipliers).sum()
                    return total

                gradients = gradient(pairing, *(point[i] for i in needed))
                for i, value in zip(needed, gradients, strict=True):
                    result[i] = value
        return (None, w, t, *result)

    @staticmethod
    @isolated
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        _require_exact(ctx.engine)
        with _as_solved(ctx), saved_primals(ctx) as (u, s, *point):
            right = [
                torch.zeros_like(value) if tangent is None else tangent
                for value, tangent in zip((u, s), tangents[:2], strict=True)
            ]
            moving = [i for i, tangent in enumerate(tangents[2:]) if tangent is not None]
            if moving:

                def product(*differentiated: Tensor) -> tuple[Tensor, Tensor]:
                    return _kkt_product(ctx.engine, _replace(point, moving, differentiated), u, s)

                change = directional_derivative(
                    product, [point[i] for i in moving], [t for t in tangents[2:] if t is not None]
                )
                right = [r - c for r, c in zip(right, change, strict=True)]
            tangent_u, tangent_s = KKTSolve.apply(ctx.engine, *right, *point)
        return tangent_u, tangent_s

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], engine: Engine, *tensors: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        ranks = (1, 1, 1, 1, 1, *engine.lagrangian.problem.core_ranks)
        aligned = align_mapped_dimensions(tensors, in_dims[1:], ranks)
        return KKTSolve.apply(engine, *aligned), (0, 0)


def _as_solved(ctx: Any) -> AbstractContextManager[None]:
    """The node with the attributes that it had when it was solved."""
    engine: Engine = ctx.engine
    return engine.lagrangian.problem.attributes.held()


def pull_back(
    engine: Engine,
    cotangents: Sequence[Tensor],
    y: Tensor,
    multipliers: Tensor,
    active: Tensor,
    operands: Sequence[Tensor],
    needed: Sequence[int],
) -> list[Tensor | None]:
    """Gradients of the operands ``needed``, None for the others."""
    result: list[Tensor | None] = [None] * len(operands)
    if not needed:
        return result
    grad_y, grad_multipliers = cotangents
    everything = (grad_y, grad_multipliers, y, multipliers, active, *operands)
    if not torch.is_grad_enabled() and not is_transformed(*everything):
        found = engine.pull_back(grad_y, grad_multipliers, y, multipliers, active, operands, needed)
        if found is not None:
            for i in needed:
                result[i] = found[i]
            return result
    u, s = KKTSolve.apply(engine, -grad_y, -grad_multipliers, y, multipliers, active, *operands)
    if engine.on_failure == "nan":
        # A problem that failed and that the loss leaves out is out: 0 · NaN would reach shared operands.
        out = y.isnan().any(-1, keepdim=True)
        out = (
            out
            & (grad_y == 0).all(-1, keepdim=True)
            & (grad_multipliers == 0).all(-1, keepdim=True)
        )
        lost = y.isnan().any(-1, keepdim=True) & ~out
        y, multipliers = torch.where(out, 1, y), torch.where(out, 1, multipliers)
        u = torch.where(out, 0, torch.where(lost, torch.nan, u))
        s = torch.where(out, 0, torch.where(lost, torch.nan, s))

    def pairing(*differentiated: Tensor) -> Tensor:
        moved = _replace(operands, needed, differentiated)
        first, second = engine.lagrangian.stationarity(y, multipliers, active, moved)
        total: Tensor = (u * first).sum() + (s * second).sum()
        return total

    gradients = gradient(pairing, *(operands[i] for i in needed))
    for i, value in zip(needed, gradients, strict=True):
        result[i] = value
    return result


def _kkt_product(
    engine: Engine, point: Sequence[Tensor], u: Tensor, s: Tensor
) -> tuple[Tensor, Tensor]:
    y, multipliers, active, *operands = point
    return KKTSystem(engine.lagrangian, y, multipliers, active, operands).product(u, s)


def _require_exact(engine: Engine) -> None:
    if engine.first_order_only:
        raise DerivativeError(
            f"{type(engine.lagrangian.problem.node).__name__}: its gradient is an approximation of first "
            "order, whose derivative would not be that of the solution to any order. Use "
            "gradient=ddn.ImplicitGradient() for second derivatives, or call backward without "
            "create_graph=True."
        )


def _replace(
    tensors: Sequence[Tensor], positions: Sequence[int], values: Sequence[Tensor]
) -> list[Tensor]:
    result = list(tensors)
    for position, value in zip(positions, values, strict=True):
        result[position] = value
    return result
