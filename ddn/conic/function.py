"""The solution of a cone program as a differentiable function of its parameters, of first order.

Three functions, all with one leading parameter tensor θ ``(*batch, p)``: the solution, its derivative in
reverse mode, and in forward mode. Each serves ``vmap`` by taking the mapped dimension as one more batch
dimension. The two derivatives are not differentiable again, and say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn.batching import align_mapped_dimensions, broadcast_shapes
from ddn.conic.derivative import pull_back, push_forward, value_at
from ddn.conic.messages import explain_rough, explain_singular, explain_status
from ddn.conic.pattern import Pattern
from ddn.conic.solve import ConeSolver
from ddn.conic.verify import solve_verified
from ddn.errors import DerivativeError, SingularSystemError, SolveWarning
from ddn.failure import apply_policy
from ddn.forward_mode import saved_primals
from ddn.functional import isolated, refuse_legacy_vmap
from ddn.solution import Status

__all__ = ["Context", "solve_cone_programs"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Context:
    """What the functions need besides tensors.

    Attributes:
        pattern: of the cone program.
        solver: solves it.
        on_failure: "raise", "warn" or "nan".
    """

    pattern: Pattern
    solver: ConeSolver
    on_failure: str


def solve_cone_programs(context: Context, parameters: Tensor) -> tuple[Tensor, ...]:
    """Solutions at parameters θ ``(*batch, p)``, in float64 on the CPU.

    Returns:
        x ``(*batch, n)``, z ``(*batch, m)`` and the optimal value ``(*batch,)``, differentiable; then the
        slacks ``(*batch, m)``, whether the solution is right to rounding ``(*batch, 1)``, and status,
        iterations, whether constraints are weakly active, ``(*batch,)`` each.
    """
    found: tuple[Tensor, ...] = _ConeSolve.apply(context, parameters)
    return found


class _ConeSolve(torch.autograd.Function):
    """θ ↦ x, z, optimal value, and what carries no derivative: s, polished, status, iterations, weak."""

    @staticmethod
    @isolated
    def forward(context: Context, parameters: Tensor) -> tuple[Tensor, ...]:
        batch = parameters.shape[:-1]
        flat = _numpy(parameters.reshape(batch.numel(), parameters.shape[-1]))
        program = context.pattern.program
        data = program.data(flat)
        verified = solve_verified(context.pattern, context.solver, data)
        found = verified.solution
        x, z, value, s = (
            torch.from_numpy(part).reshape((*batch, *part.shape[1:]))
            for part in (found.x, found.z, value_at(program, data, found.x), found.s)
        )
        status = torch.from_numpy(found.status).reshape(batch)
        iterations = torch.from_numpy(found.iterations).reshape(batch)
        weak = torch.from_numpy(verified.weakly_active).reshape(batch)
        polished = torch.from_numpy(verified.polished.astype(np.float64)).reshape(*batch, 1)
        x, z, value, s = apply_policy(
            context.on_failure,
            status != Status.CONVERGED,
            lambda: explain_status(status),
            (x, z, value, s),
        )
        return x, z, value, s, polished, status, iterations, weak

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.context, parameters = inputs
        x, z, _, s, polished, *_ = output
        ctx.mark_non_differentiable(*output[3:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(parameters, x, z, s, polished)
        ctx.save_for_forward(parameters, x, z, s, polished)

    @staticmethod
    @isolated
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[None, Tensor | None]:
        given = [c for c in cotangents[:3] if c is not None]
        refuse_legacy_vmap("CvxpyNode", given)
        if not given:
            return None, None
        parameters, x, z, s, polished = ctx.saved_tensors
        defaults = (torch.zeros_like(x), torch.zeros_like(z), torch.zeros_like(x[..., 0]))
        full = [
            default if cotangent is None else cotangent
            for cotangent, default in zip(cotangents[:3], defaults, strict=True)
        ]
        return None, _PullBack.apply(ctx.context, *full, parameters, x, z, s, polished)

    @staticmethod
    @isolated
    def jvp(ctx: Any, _: None, tangent: Tensor | None) -> tuple[Tensor | None, ...]:
        if tangent is None:
            return (None,) * 8
        with saved_primals(ctx) as tensors:
            changes = _PushForward.apply(ctx.context, tangent, *tensors)
        return (*changes, *(None,) * 5)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], context: Context, parameters: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        outputs = _ConeSolve.apply(context, parameters.movedim(in_dims[1], 0))
        return outputs, (0,) * 8


class _PullBack(torch.autograd.Function):
    """Cotangents of x, z and the optimal value ↦ gradient of θ."""

    @staticmethod
    @isolated
    def forward(context: Context, *tensors: Tensor) -> Tensor:
        cotangents, point = tensors[:3], tensors[3:]
        columns = _Columns(point, cotangents, (1, 1, 0))
        parameters, x, z, s, polished = (_numpy(part) for part in columns.point)
        right = [_numpy(part) for part in columns.given]
        lost = np.asarray(~np.isfinite(x).all(-1))
        used = np.zeros((len(x), columns.columns), bool)
        for part in right:
            used |= (part != 0).any(1) if part.ndim == 3 else part != 0
        for part in (*right, parameters, x, z, s):
            part[lost] = 0  # no NaN into the rest; a problem that the loss leaves out is out
        gradient, singular = pull_back(
            context.pattern, parameters, (x, z, s), (right[0], right[1], right[2])
        )
        gradient[lost[:, None] & used] = np.nan
        _warn_if_rough(columns, polished, ~lost & used.any(1))
        (result,) = _treat_singular(context, columns, singular & ~lost, torch.from_numpy(gradient))
        return columns.unfold(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> NoReturn:
        _refuse_second_order()

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> NoReturn:
        _refuse_second_order()

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], context: Context, *tensors: Tensor
    ) -> tuple[Tensor, int]:
        aligned = align_mapped_dimensions(tensors, in_dims[1:], (1, 1, 0, 1, 1, 1, 1, 1))
        return _PullBack.apply(context, *aligned), 0


class _PushForward(torch.autograd.Function):
    """Tangent of θ ↦ tangents of x, z and the optimal value."""

    @staticmethod
    @isolated
    def forward(context: Context, tangent: Tensor, *point: Tensor) -> tuple[Tensor, ...]:
        columns = _Columns(point, (tangent,), (1,))
        parameters, x, z, s, polished = (_numpy(part) for part in columns.point)
        right = _numpy(columns.given[0])
        lost = np.asarray(~np.isfinite(x).all(-1))
        for numbers in (right, parameters, x, z, s):
            numbers[lost] = 0
        _warn_if_rough(columns, polished, ~lost)
        *changes, singular = push_forward(context.pattern, parameters, (x, z, s), right)
        moved = [torch.from_numpy(change.swapaxes(1, -1)) for change in changes]
        for part in moved:
            part[torch.from_numpy(lost)] = torch.nan
        results = _treat_singular(context, columns, singular & ~lost, *moved)
        dx, dz, dv = (columns.unfold(part) for part in results)
        return dx, dz, dv

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> NoReturn:
        _refuse_second_order()

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> NoReturn:
        _refuse_second_order()

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], context: Context, *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        aligned = align_mapped_dimensions(tensors, in_dims[1:], (1,) * 6)
        return _PushForward.apply(context, *aligned), (0, 0, 0)


class _Columns:
    """Several right sides for one solution: leading dimensions that the solution lacks become columns.

    Attributes:
        point: tensors ``(problems, size)``.
        given: right sides ``(problems, size, columns)``, or ``(problems, columns)`` for numbers.
    """

    def __init__(
        self, point: Sequence[Tensor], given: Sequence[Tensor], ranks: Sequence[int]
    ) -> None:
        solved = broadcast_shapes([part.shape[:-1] for part in point])
        batches = [part.shape[: part.ndim - rank] for part, rank in zip(given, ranks, strict=True)]
        self.shape = broadcast_shapes([solved, *batches])
        extra = len(self.shape) - len(solved)
        if self.shape[extra:] != solved:
            solved, extra = self.shape, 0
        self.solved = solved
        self.columns = self.shape[:extra].numel()
        count = solved.numel()
        self.point = [
            part.expand(*solved, -1).reshape(count, part.shape[-1]).clone() for part in point
        ]
        self.given = []
        for part, rank in zip(given, ranks, strict=True):
            core = part.shape[part.ndim - rank :]
            wide = part.expand((*self.shape, *core)).reshape((self.columns, count, *core))
            self.given.append(wide.movedim(0, -1).clone(memory_format=torch.contiguous_format))

    def unfold(self, result: Tensor) -> Tensor:
        """``(problems, columns, *core)`` as ``(*batch, *core)``."""
        front = result.movedim(1, 0).contiguous()
        unfolded = front.reshape((*self.shape, *front.shape[2:]))
        return unfolded.clone() if unfolded._is_view() else unfolded


def _treat_singular(
    context: Context, columns: _Columns, singular: NDArray[np.bool_], *tensors: Tensor
) -> tuple[Tensor, ...]:
    mask = torch.from_numpy(singular)
    results = apply_policy(
        context.on_failure,
        mask.reshape(columns.solved),
        lambda: explain_singular(mask.reshape(columns.solved)),
        tuple(part.reshape((*columns.solved, *part.shape[1:])) for part in tensors),
        SingularSystemError,
    )
    return tuple(part.reshape(tensor.shape) for part, tensor in zip(results, tensors, strict=True))


def _warn_if_rough(columns: _Columns, polished: Array, asked: NDArray[np.bool_]) -> None:
    rough = torch.from_numpy((polished[:, 0] == 0) & asked).reshape(columns.solved)
    if bool(rough.any()):
        warnings.warn(explain_rough(rough), SolveWarning, stacklevel=2)


def _refuse_second_order() -> NoReturn:
    raise DerivativeError(
        "CvxpyNode has first derivatives only: its solution moves with the projection onto cones, whose "
        "derivative is not differentiated again. For second derivatives state the problem as "
        "ddn.nodes.QuadraticProgram, or as a ddn.DeclarativeNode with smooth objective and constraints; "
        "for first derivatives alone call backward without create_graph=True."
    )


def _numpy(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().numpy(), np.float64)
