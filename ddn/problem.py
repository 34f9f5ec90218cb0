"""The problem of a node, in the form that solvers and the gradient engine need.

A user writes functions of one problem with the solution in natural shapes. Here the solution is one
vector y ``(*batch, m)`` (all blocks, flattened and concatenated), functions are batched, and parameters
and buffers of the node's module are operands like the inputs.

All inequality constraints are rows of one vector ≤ 0: those of ``inequality``, then, for a node with
``bounds``, lower − y and y − upper for all m variables. A row whose bound is infinite is the constant −1:
it is never active.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ddn.batching import broadcast_shapes, expand_batch, vectorize
from ddn.captured import MethodCaller, PlainAttributes, captured_tensors, is_same
from ddn.constraints import asymmetry, flatten_bounds, flatten_constraints
from ddn.errors import DeclarativeNodeError, SignatureError, explain_failure
from ddn.functional import gradient, reverse
from ddn.quadratic.balance import Balanced
from ddn.quadratic.data import QuadraticData
from ddn.starting_point import generic_point, stated_point

if TYPE_CHECKING:
    from ddn.node import DeclarativeNode

__all__ = ["Problem"]


class Problem:
    """Batched view of a node for inputs of known shapes.

    Operands are the inputs followed by the captured tensors (parameters and buffers of the node),
    ``(*batch, *core)`` each, with batch dimensions that broadcast.

    Attributes:
        node: the node whose functions state the problem.
        core_ranks: number of core dimensions of every operand.
        num_inputs: number of operands that are inputs.
        output_shapes: core shapes of the solution blocks.
        attributes: what the node held besides tensors when the problem was made.
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
        self.attributes = PlainAttributes.of(node)
        self._matrices: tuple[Any, ...] = ()
        self._captured = tuple(f"node.{name}" for name in captured)
        self._sizes = [shape.numel() for shape in self.output_shapes]

    @property
    def has_equality(self) -> bool:
        """Whether the node states equality constraints."""
        return self.node.has_equality

    @property
    def has_residual(self) -> bool:
        """Whether the objective is ½‖r‖² of a residual r that the node states."""
        return self.node.residual is not None

    @property
    def is_quadratic(self) -> bool:
        """Whether the node states the matrices of a quadratic program."""
        return self.node.quadratic_program is not None

    @property
    def has_inequality(self) -> bool:
        """Whether the node states inequality constraints or bounds."""
        return self.node.inequality is not None or self.has_bounds

    @property
    def has_bounds(self) -> bool:
        """Whether the node states bounds of its variables."""
        return self.node.bounds is not None

    @property
    def is_constrained(self) -> bool:
        """Whether the node states constraints of any kind."""
        return self.has_equality or self.has_inequality

    @property
    def num_variables(self) -> int:
        """m, the number of entries of the solution."""
        return sum(self._sizes)

    @property
    def num_bound_rows(self) -> int:
        """Number of inequality rows that are bounds, at the end: 2m, or none."""
        return 2 * self.num_variables if self.has_bounds else 0

    # -- shapes ---------------------------------------------------------------------------------

    def batch_shape(self, operands: Sequence[Tensor]) -> torch.Size:
        """Common batch shape of all operands."""
        shapes = [t.shape[: t.ndim - r] for t, r in zip(operands, self.core_ranks, strict=True)]
        return broadcast_shapes(shapes)

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """Solution vector ``(*batch, m)`` to blocks ``(*batch, *core)``."""
        batch = y.shape[:-1]
        if len(self._sizes) == 1:  # no copy in the backward pass
            return (y.reshape((*batch, *self.output_shapes[0])),)
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
        try:
            return self._invoke(name, operands, *arguments)
        except DeclarativeNodeError:
            raise
        except Exception as error:
            explain_failure(error, self.node, name, arguments)
            raise

    def _invoke(self, name: str, operands: Sequence[Tensor], *arguments: Any) -> Any:
        captured = operands[self.num_inputs :]
        # Compared with what the node holds now: inside functional_call it held other tensors.
        if all(map(is_same, captured, captured_tensors(self.node).values())):
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
        return self.vectorize(self.objective_of_one, (1,), (y,), operands)

    def residual(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """r for every problem, ``(*batch, r)``; for nodes that state one."""
        return self.vectorize(self.residual_of_one, (1,), (y,), operands)

    def equality(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """h for every problem, ``(*batch, p)``; p = 0 without constraints."""
        if not self.has_equality:
            return y.new_zeros(*y.shape[:-1], 0)
        return self.vectorize(self.equality_of_one, (1,), (y,), operands)

    def inequality(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """All inequality rows for every problem, ``(*batch, q)``; q = 0 without any."""
        if not self.has_inequality:
            return y.new_zeros(*y.shape[:-1], 0)
        return self.vectorize(self.inequality_of_one, (1,), (y,), operands)

    def num_inequalities(self, y: Tensor, operands: Sequence[Tensor]) -> int:
        """q, from the first problem of the batch."""
        if not self.has_inequality:
            return 0
        single = [
            operand[(0,) * (operand.ndim - rank)]
            for operand, rank in zip(operands, self.core_ranks, strict=True)
        ]
        return self.inequality_of_one(y[(0,) * (y.ndim - 1)], *single).shape[-1]

    def constraints(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """Equality rows, then inequality rows, for every problem, ``(*batch, p + q)``."""
        return torch.cat([self.equality(y, operands), self.inequality(y, operands)], -1)

    def bounds(self, operands: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of all variables, ``(*batch, m)`` each, infinite where there is none."""

        def single(*operands: Tensor) -> Tensor:
            return torch.stack(self._bounds(operands))

        batch, m = self.batch_shape(operands), self.num_variables
        pair = self.vectorize(single, (), (), operands).expand(*batch, 2, m)
        return pair[..., 0, :], pair[..., 1, :]

    def quadratic_program(self, flat: Sequence[Tensor]) -> QuadraticData:
        """The matrices of the problems, for operands that :meth:`flatten_batch` has prepared."""
        data = self.call("quadratic_program", flat)
        if not isinstance(data, QuadraticData):
            raise SignatureError(
                f"{type(self.node).__name__}.quadratic_program must return ddn.QuadraticData(Q, q, ...), but "
                f"returned {type(data).__name__}."
            )
        return data

    def matrices(self, operands: Sequence[Tensor]) -> QuadraticData:
        """The same in float64, for operands ``(*batch, *core)``; the last ones are remembered."""
        if not self._remembers(operands):
            stated = self.quadratic_program(self.flatten_batch(operands))
            # Which rows are active is decided by small differences.
            self.remember(operands, stated.map(lambda value: value.detach().double()))
        data: QuadraticData = self._matrices[1]
        return data

    def balanced(self, operands: Sequence[Tensor]) -> Balanced:
        """The same in units in which variables are alike."""
        data = self.matrices(operands)
        if len(self._matrices) == 2:
            self._matrices = (*self._matrices, Balanced.of(data))
        balanced: Balanced = self._matrices[2]
        return balanced

    def remember(self, operands: Sequence[Tensor], data: QuadraticData) -> None:
        """Keep matrices for as long as the problem is being solved."""
        self._matrices = (tuple(operands), data)

    def _remembers(self, operands: Sequence[Tensor]) -> bool:
        known = self._matrices[0] if self._matrices else ()
        return len(known) == len(operands) and all(map(operator.is_, known, operands))

    def constraint_asymmetry(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor | None:
        """Relative asymmetry of constraints marked symmetric, ``(*batch,)``; None without any."""
        found = False

        def single(y: Tensor, *operands: Tensor) -> Tensor:
            nonlocal found
            value = asymmetry(self.call("equality", operands, *self.split(y)))
            found = value is not None
            return y.new_zeros(()) if value is None else value

        result = self.vectorize(single, (1,), (y,), operands)
        return result if found else None

    # -- derivatives of first order, by reverse passes ------------------------------------------

    def gradient(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """∇_y f for every problem, ``(*batch, m)``."""
        return gradient(lambda y: self.objective(y, operands).sum(), y)[0]

    def stated_jacobian(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """∂(h, g)/∂y without bounds, ``(*batch, rows, m)``, by one reverse pass a row, mapped at once."""
        if not self.has_equality and self.node.inequality is None:
            return y.new_zeros(*y.shape[:-1], 0, y.shape[-1])
        value, pullback = reverse(lambda y: self._stated_rows(y, operands), y)
        rows = value.shape[-1]
        if not rows:
            return y.new_zeros(*y.shape[:-1], 0, y.shape[-1])
        basis = torch.eye(rows, dtype=y.dtype, device=y.device)
        basis = basis.reshape(rows, *(1,) * (value.ndim - 1), rows).expand(rows, *value.shape)
        jacobian: Tensor = torch.func.vmap(lambda e: pullback(e)[0])(basis)
        return jacobian.movedim(0, -2)

    def constraint_jacobian(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """∂(h, g)/∂y of all rows, bounds included, ``(*batch, p + q, m)``."""
        jacobian = self.stated_jacobian(y, operands)
        if not self.has_bounds:
            return jacobian
        return torch.cat([jacobian, self.bound_jacobian(y, operands)], -2)

    def bound_jacobian(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """Jacobian of the bound rows, ``(*batch, 2m, m)``: ∓1 on the diagonals where a bound is finite."""
        lower, upper = self.bounds(operands)
        signs = -(lower != -torch.inf).to(y.dtype), (upper != torch.inf).to(y.dtype)
        return torch.cat([torch.diag_embed(sign.expand_as(y)) for sign in signs], -2)

    def _stated_rows(self, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """The rows of ``equality`` and ``inequality``, without bounds."""
        inequality = self.node.inequality
        rows = [self.equality(y, operands)]
        if inequality is not None:
            rows.append(self.vectorize(self._stated_inequality, (1,), (y,), operands))
        return torch.cat(rows, -1)

    # -- one problem ----------------------------------------------------------------------------

    def objective_of_one(self, y: Tensor, *operands: Tensor) -> Tensor:
        """f of one problem, ``()``."""
        if self.has_residual:
            return self.residual_of_one(y, *operands).square().sum() / 2
        value = self.call("objective", operands, *self.split(y))
        if not isinstance(value, Tensor) or value.shape != ():
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise SignatureError(
                f"{type(self.node).__name__}.objective must return a scalar for one problem "
                f"(shape ()), but returned {found}. Sum over all entries: `.sum()`."
            )
        if not value.is_floating_point():
            raise SignatureError(
                f"{type(self.node).__name__}.objective returned a value of {value.dtype}, which has no "
                "derivative: return a floating-point number that depends smoothly on the solution."
            )
        return value.to(y.dtype)

    def residual_of_one(self, y: Tensor, *operands: Tensor) -> Tensor:
        """r of one problem, ``(r,)``."""
        return self._flattened("residual", y, operands)

    def equality_of_one(self, y: Tensor, *operands: Tensor) -> Tensor:
        """h of one problem, ``(p,)``."""
        return self._flattened("equality", y, operands)

    def _stated_inequality(self, y: Tensor, *operands: Tensor) -> Tensor:
        return self._flattened("inequality", y, operands)

    def _flattened(self, name: str, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
        value = self.call(name, operands, *self.split(y))
        return flatten_constraints(value, f"{type(self.node).__name__}.{name}").to(y.dtype)

    def inequality_of_one(self, y: Tensor, *operands: Tensor) -> Tensor:
        """All inequality rows of one problem, ``(q,)``."""
        rows = []
        if self.node.inequality is not None:
            rows.append(self._stated_inequality(y, *operands))
        if self.has_bounds:
            lower, upper = self._bounds(operands)
            rows.append(torch.where(lower == -torch.inf, -1, lower - y))
            rows.append(torch.where(upper == torch.inf, -1, y - upper))
        return torch.cat(rows)

    def _bounds(self, operands: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        like = operands[0]
        name = type(self.node).__name__
        return flatten_bounds(self.call("bounds", operands), self.output_shapes, like, name)

    def vectorize(
        self,
        function: Any,
        ranks: tuple[int, ...],
        tensors: tuple[Tensor, ...],
        operands: Sequence[Tensor],
    ) -> Tensor:
        """``function(*tensors, *operands)`` of one problem, mapped over the batch."""
        result: Tensor = vectorize(function, (*ranks, *self.core_ranks), (*tensors, *operands))
        return result

    @cached_property
    def _caller(self) -> nn.Module:
        return MethodCaller(self.node)

    # -- where to start -------------------------------------------------------------------------

    def starting_point(self, operands: Sequence[Tensor]) -> Tensor:
        """Where solvers start, ``(*batch, m)``; see :mod:`ddn.starting_point`."""
        return (
            generic_point(self, operands)
            if self.node.starting_point is None
            else stated_point(self, operands)
        )

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
