"""A node's inputs, checked: shapes against the signature, dtypes and devices against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ddn.captured import captured_tensors
from ddn.errors import DtypeError, ShapeError
from ddn.problem import Problem
from ddn.signature import Signature, format_term
from ddn.solution import Solution, SolvedProblem

if TYPE_CHECKING:
    from ddn.node import DeclarativeNode

__all__ = ["Bound", "bind"]

# Optimality conditions do not survive sixteen bits: such inputs are solved in float32 and cast back.
_NARROW = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Bound:
    """A node and its inputs, ready to be solved.

    Attributes:
        problem: the problem with known shapes.
        operands: inputs, then parameters and buffers of the node, in the dtype of the computation.
        batch_shape: common batch shape of the inputs.
        dtype: of the result: that of the inputs.
    """

    problem: Problem
    operands: tuple[Tensor, ...]
    batch_shape: torch.Size
    dtype: torch.dtype

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to solve for: no problem, or no variable."""
        return self.batch_shape.numel() == 0 or self.problem.num_variables == 0

    def empty_solution(self) -> tuple[Tensor, ...]:
        """The solution without any number, connected to all operands by zero gradients."""
        differentiable = [o for o in self.operands if o.is_floating_point()]
        connection = sum((operand.sum() * 0 for operand in differentiable), torch.zeros(()))
        return tuple(
            connection.expand(*self.batch_shape, *shape).to(self.operands[0])
            for shape in self.problem.output_shapes
        )

    def present(self, blocks: Sequence[Tensor]) -> Any:
        """Blocks as the user sees them: in the dtype of the inputs; one tensor if there is one."""
        cast = tuple(block.to(self.dtype) for block in blocks)
        return cast[0] if len(cast) == 1 else cast

    def present_solution(self, solved: SolvedProblem) -> Solution:
        """A solution as the user sees it: multipliers apart by kind of constraint."""
        problem = self.problem
        q = solved.active.shape[-1]
        p = solved.multipliers.shape[-1] - q
        m, bounds = problem.num_variables, problem.num_bound_rows
        sizes = [p, q - bounds, *([m, m] if bounds else [])]
        equality, inequality, *sides = solved.multipliers.to(self.dtype).split(sizes, -1)
        lower, upper = [self.present(problem.split(side)) for side in sides] or (None, None)
        return Solution(
            self.present(problem.split(solved.y)),
            equality,
            inequality if problem.node.inequality is not None else None,
            lower,
            upper,
            solved.active if problem.has_inequality else None,
            solved.weakly_active if problem.has_inequality else None,
            solved.status,
            solved.iterations,
            solved.stationarity,
            solved.primal_feasibility,
            solved.complementarity,
        )


def bind(node: DeclarativeNode, signature: Signature, inputs: Sequence[Tensor]) -> Bound:
    """Check inputs and collect what the problem depends on."""
    for position, value in enumerate(inputs[: len(signature.inputs)]):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise _wrong_type(node, signature, position, value)
    try:
        binding = signature.bind(inputs, node.dimensions)
    except ShapeError as error:
        raise ShapeError(f"{type(node).__name__}: {error}") from error
    # Parameters and buffers are operands like the inputs, so that nothing the problem uses is missed.
    captured = captured_tensors(node)
    dtype = inputs[0].dtype
    for value in inputs[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    compute = torch.float32 if dtype in _NARROW else dtype
    everything = (*inputs, *captured.values())
    operands = []
    for position, given in enumerate(everything):
        value = given
        floating = value.is_floating_point()
        wrong = floating and value.dtype != compute and value.dtype not in _NARROW
        if wrong or value.device != inputs[0].device:
            labels = [f"input {i}" for i in range(len(inputs))] + list(captured)
            raise _mismatch(node, labels[position], value, inputs[0], compute)
        value = value.to(compute) if floating else value
        # Autograd refuses tensors that were made in inference mode, but not their copies.
        outside = value.is_inference() and not torch.is_inference_mode_enabled()
        operands.append(value.clone() if outside else value)
    core_ranks = [len(term) for term in signature.inputs] + [v.ndim for v in captured.values()]
    shapes = signature.output_shapes(binding.sizes)
    problem = Problem(node, core_ranks, tuple(captured), shapes)
    return Bound(problem, tuple(operands), binding.batch_shape, dtype)


def _wrong_type(
    node: DeclarativeNode, signature: Signature, position: int, value: Any
) -> DtypeError:
    label = (
        f"{type(node).__name__}: input {position}, signature term "
        f"{format_term(signature.inputs[position])},"
    )
    if not isinstance(value, Tensor):
        return DtypeError(
            f"{label} must be a tensor, but is {type(value).__name__}: wrap it in torch.as_tensor."
        )
    return DtypeError(
        f"{label} has dtype {value.dtype}: a node differentiates with respect to real numbers. "
        "Convert it, for example by .to(torch.get_default_dtype())."
    )


def _mismatch(
    node: DeclarativeNode, label: str, value: Tensor, first: Tensor, compute: torch.dtype
) -> DtypeError:
    name = type(node).__name__
    if value.device != first.device:
        return DtypeError(
            f"{name}: {label} is on {value.device}, but input 0 on {first.device}. Move all inputs and "
            "the node to one device."
        )
    return DtypeError(
        f"{name}: {label} has dtype {value.dtype}, but the computation runs in {compute}. Convert "
        "inputs and node to one dtype, for example by .to(torch.float64)."
    )
