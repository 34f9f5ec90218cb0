"""The problem of a node, in the form that solvers and the gradient engine need.

A user writes functions of one problem with the solution in natural shapes. Here the solution is one
vector y (all blocks, flattened and concatenated), functions are batched, parameters and buffers of
the node's module are operands like the inputs, and the Lagrangian

    L(x, y, λ) = f(x, y) + λᵀ h(x, y)

gives everything by reverse passes:  F = ∇_(y,λ) L = (∇_y L, h)  and the symmetric KKT matrix
K = ∇²_(y,λ) L = [[H, Aᵀ], [A, 0]]  with  H = ∂²L/∂y²,  A = ∂h/∂y.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddn.batching import broadcast_shapes, expand_batch, vectorize
from ddn.constraints import asymmetry, flatten_constraints
from ddn.errors import SignatureError
from ddn.functional import reverse

if TYPE_CHECKING:
    from ddn.node import DeclarativeNode

__all__ = ["Problem", "captured_tensors", "generic_vector"]


class Problem:
    """Batched Lagrangian view of a node for inputs of known shapes.

    Operands are the inputs followed by the captured tensors (parameters and buffers of the node),
    ``(*batch, *core)`` each, with batch dimensions that broadcast.

    Attributes:
        node: the node whose functions state the problem.
        core_ranks: number of core dimensions of every operand.
        num_inputs: number of operands that are inputs.
        output_shapes: core shapes of the solution blocks.
    """

    def __init__(
        self,
        node: DeclarativeNode,
        core_ranks: Sequence[int],
        captured: Sequence[str],
        output_shapes: Sequence[torch.Size],
    ) -> None:
        self.node = node
        self.core_ranks = tuple(core_ranks)
        self.output_shapes = tuple(output_shapes)
        self.num_inputs = len(core_ranks) - len(captured)
        self._captured = tuple(f"node.{name}" for name in captured)
        self._sizes = [shape.numel() for shape in self.output_shapes]

    @property
    def has_equality(self) -> bool:
        """Whether the node states equality constraints."""
        return self.node.has_equality

    @property
    def num_variables(self) -> int:
        """m, the number of entries of the solution."""
        return sum(self._sizes)

    # -- shapes ---------------------------------------------------------------------------------

    def batch_shape(self, operands: Sequence[Tensor]) -> torch.Size:
        """Common batch shape of all operands."""
        shapes = [t.shape[: t.ndim - r] for t, r in zip(operands, self.core_ranks, strict=True)]
        return broadcast_shapes(shapes)

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """Solution vector ``(*batch, m)`` to blocks ``(*batch, *core)``."""
        batch = y.shape[:-1]
        parts = y.split(self._sizes, dim=-1)
        return tuple(
            part.reshape((*batch, *shape))
            for part, shape in zip(parts, self.output_shapes, strict=True)
        )

    def join(self, blocks: Sequence[Tensor]) -> Tensor:
        """Blocks ``(*batch, *core)`` to the solution vector ``(*batch, m)``."""
        flat = [
            block.reshape(*block.shape[: block.ndim - len(shape)], shape.numel())
            for block, shape in zip(blocks, self.output_shapes, strict=True)
        ]
        return flat[0] if len(flat) == 1 else torch.cat(flat, dim=-1)

    # -- the user's functions, batched ----------------------------------------------------------

    def call(self, name: str, operands: Sequence[Tensor], *extra: Any) -> Any:
        """Call a method of the node on the inputs among ``operands`` and ``extra`` arguments."""
        return self.invoke(name, operands, *operands[: self.num_inputs], *extra)

    def invoke(self, name: str, operands: Sequence[Tensor], *arguments: Any) -> Any:
        """Call a method of the node with parameters and buffers taken from ``operands``."""
        captured = operands[self.num_inputs :]
        # Compared with what the node holds now: inside functional_call it held other tensors.
        if all(map(operator.is_, captured, captured_tensors(self.node).values())):
            return getattr(self.node, name)(*arguments)
        state = dict(zip(self._captured, captured, strict=True))
        return torch.func.functional_call(self._caller, state, (name, *arguments))

    def expand_inputs(self, operands: Sequence[Tensor], batch: torch.Size) -> list[Tensor]:
        """Operands with every input expanded to the whole batch."""
        return [
            expand_batch(operand, rank, batch) if position < self.num_inputs else operand
            for position, (operand, rank) in enumerate(zip(operands, self.core_ranks, strict=True))
        ]

    def objective(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """f for every problem, ``(*batch,)``."""
        return self._vectorize(self._objective, (1,), (y,), operands)

    def equality(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """h for every problem, ``(*batch, p)``; p = 0 without constraints."""
        if not self.has_equality:
            return y.new_zeros(*y.shape[:-1], 0)
        return self._vectorize(self._equality, (1,), (y,), operands)

    def lagrangian(self, y: Tensor, multipliers: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """L = f + λᵀh for every problem, ``(*batch,)``."""
        if not self.has_equality:
            return self.objective(y, operands)

        def single(y: Tensor, multipliers: Tensor, *operands: Tensor) -> Tensor:
            return self._objective(y, *operands) + multipliers @ self._equality(y, *operands)

        return self._vectorize(single, (1, 1), (y, multipliers), operands)

    def constraint_asymmetry(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor | None:
        """Relative asymmetry of constraints marked symmetric, ``(*batch,)``; None without any."""
        found = False

        def single(y: Tensor, *operands: Tensor) -> Tensor:
            nonlocal found
            value = asymmetry(self.call("equality", operands, *self.split(y)))
            found = value is not None
            return y.new_zeros(()) if value is None else value

        result = self._vectorize(single, (1,), (y,), operands)
        return result if found else None

    # -- derivatives, each by reverse passes ----------------------------------------------------

    def stationarity(
        self, y: Tensor, multipliers: Tensor, operands: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """F = (∇_y L, h): zero at a solution. Shapes ``(*batch, m)`` and ``(*batch, p)``."""
        gradients = torch.func.grad(
            lambda y, multipliers: self.lagrangian(y, multipliers, operands).sum(), argnums=(0, 1)
        )(y, multipliers)
        return gradients[0], gradients[1]

    def kkt_product(
        self,
        y: Tensor,
        multipliers: Tensor,
        operands: Sequence[Tensor],
        direction: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """K (u, s) by one reverse pass through F (K is symmetric)."""
        _, pullback = reverse(
            lambda y, multipliers: self.stationarity(y, multipliers, operands), y, multipliers
        )
        first, second = pullback(direction)
        return first, second

    def kkt_blocks(
        self, y: Tensor, multipliers: Tensor, operands: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """H ``(*batch, m, m)`` and A ``(*batch, p, m)`` by m reverse passes, mapped at once."""
        _, pullback = reverse(
            lambda y, multipliers: self.stationarity(y, multipliers, operands), y, multipliers
        )
        m = y.shape[-1]
        basis = torch.eye(m, dtype=y.dtype, device=y.device)
        basis = basis.reshape(m, *(1,) * (y.ndim - 1), m).expand(m, *y.shape)
        no_constraint = torch.zeros_like(multipliers)
        hessian, jacobian = torch.func.vmap(lambda e: pullback((e, no_constraint)))(basis)
        # Row i of the stack is K e_i: (H e_i, A e_i).
        return hessian.movedim(0, -2), jacobian.movedim(0, -1)

    def constraint_jacobian(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """A = ∂h/∂y, ``(*batch, p, m)``, by p reverse passes, mapped at once."""
        if not self.has_equality:
            return y.new_zeros(*y.shape[:-1], 0, y.shape[-1])
        value, pullback = reverse(lambda y: self.equality(y, operands), y)
        p = value.shape[-1]
        basis = torch.eye(p, dtype=y.dtype, device=y.device)
        basis = basis.reshape(p, *(1,) * (value.ndim - 1), p).expand(p, *value.shape)
        jacobian: Tensor = torch.func.vmap(lambda e: pullback(e)[0])(basis)
        return jacobian.movedim(0, -2)

    # -- one problem ----------------------------------------------------------------------------

    def _objective(self, y: Tensor, *operands: Tensor) -> Tensor:
        value = self.call("objective", operands, *self.split(y))
        if not isinstance(value, Tensor) or value.shape != ():
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise SignatureError(
                f"{type(self.node).__name__}.objective must return a scalar for one problem "
                f"(shape ()), but returned {found}. Sum over all entries: `.sum()`."
            )
        return value.to(y.dtype)

    def _equality(self, y: Tensor, *operands: Tensor) -> Tensor:
        return flatten_constraints(self.call("equality", operands, *self.split(y))).to(y.dtype)

    def _vectorize(
        self,
        function: Any,
        ranks: tuple[int, ...],
        tensors: tuple[Tensor, ...],
        operands: Sequence[Tensor],
    ) -> Tensor:
        result: Tensor = vectorize(function, (*ranks, *self.core_ranks), (*tensors, *operands))
        return result

    @cached_property
    def _caller(self) -> nn.Module:
        return _MethodCaller(self.node)

    # -- where to start -------------------------------------------------------------------------

    def starting_point(self, operands: Sequence[Tensor]) -> Tensor:
        """Where solvers start, ``(*batch, m)``: the node's ``starting_point``, or a generic point.

        The generic point is positive and in general position, inside the domain of logarithms, and
        the Jacobian of constraints such as ‖y‖² = 1 or YᵀY = I has full rank there.
        """
        if self.node.starting_point is None:
            return self.generic_point(operands)
        batch = self.batch_shape(operands)

        def single(*operands: Tensor) -> Tensor:
            value = self.call("starting_point", operands)
            return self.join((value,) if isinstance(value, Tensor) else value)

        point = self._vectorize(single, (), (), operands)
        return point.expand(*batch, self.num_variables).clone()

    def generic_point(self, operands: Sequence[Tensor]) -> Tensor:
        """A positive point in general position, of length about 1, ``(*batch, m)``."""
        batch, m = self.batch_shape(operands), self.num_variables
        generic: Tensor = generic_vector(operands[0].new_empty(m)) / m**0.5
        return generic.expand(*batch, m).clone()

    # -- subsets of a batch ---------------------------------------------------------------------

    def flatten_batch(self, operands: Sequence[Tensor]) -> list[Tensor]:
        """Operands with one batch dimension, or none where an operand is shared by all problems."""
        batch_shape = self.batch_shape(operands)
        flat = []
        for operand, rank in zip(operands, self.core_ranks, strict=True):
            core = operand.shape[operand.ndim - rank :]
            if operand.shape[: operand.ndim - rank].numel() == 1:
                flat.append(operand.reshape(core))
            else:
                whole = expand_batch(operand, rank, batch_shape)
                flat.append(whole.reshape(batch_shape.numel(), *core))
        return flat

    def select(self, operands: Sequence[Tensor], index: Tensor) -> list[Tensor]:
        """The problems ``index`` of operands that :meth:`flatten_batch` has prepared."""
        return [
            operand if operand.ndim == rank else operand[index]
            for operand, rank in zip(operands, self.core_ranks, strict=True)
        ]


def captured_tensors(node: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a node (and its submodules) by name."""
    if next(node.children(), None) is None:
        own = {**node._parameters, **node._buffers}
        return {name: value for name, value in own.items() if value is not None}
    return {**dict(node.named_parameters()), **dict(node.named_buffers())}


def generic_vector(like: Tensor) -> Tensor:
    """Numbers in (1/2, 3/2) without any pattern, the same on every call; ``(m,)`` for ``(*batch, m)``.

    Fractional parts of multiples of the golden ratio: a point in general position, positive, finite.
    """
    index = torch.arange(1, like.shape[-1] + 1, device=like.device, dtype=torch.float64)
    return (0.5 + (index * 0.6180339887498949).frac()).to(like.dtype)


class _MethodCaller(nn.Module):
    """Lets ``torch.func.functional_call`` reach any method of a node, not only ``forward``."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.node = node

    def forward(self, name: str, *arguments: Any) -> Any:
        return getattr(self.node, name)(*arguments)
