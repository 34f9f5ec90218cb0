"""A problem whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddn.captured import captured_tensors
from ddn.node import DeclarativeNode
from ddn.problem import Problem
from ddn.solution import SolverResult, Status
from ddn.solvers.base import as_blocks
from ddn.testing.problems.draw import Draw

__all__ = ["KnownAnswer", "KnownProblem"]


@dataclass(frozen=True)
class KnownProblem:
    """A node with random inputs and the answer to them.

    Attributes:
        name: unique in the zoo.
        node: makes the node; takes its options (``solver``, ``gradient``, ``on_failure``).
        inputs: makes random inputs; :meth:`sample` is the way to call it.
        solution: ``(*inputs, **parameters)`` to y, or a tuple with one tensor per block: a closed form in
            differentiable torch operations, batched, apart from the engine; parameters of the node come by
            name. None where there is no solution, or more than one.
        multipliers: ``(*inputs)`` to known multipliers by their name in :class:`ddn.Solution`.
        length: ``(*inputs)`` to the size that errors of y are relative to, ``(*batch,)``; None for that
            of y itself. Needed where y may vanish although the data do not.
        flags: of :class:`ddn.Certificate`, false for every problem drawn; none for a regular problem.
        differentiable: whether the derivative of ``solution`` is that of the problem; where it has a kink
            this is the one-sided derivative that :class:`ddn.ImplicitGradient` promises.
    """

    name: str
    node: Callable[..., DeclarativeNode]
    inputs: Callable[[Draw], tuple[Tensor, ...]]
    solution: Callable[..., Any] | None = None
    multipliers: Callable[..., Mapping[str, Any]] | None = None
    length: Callable[..., Tensor] | None = None
    flags: tuple[str, ...] = ()
    differentiable: bool = True

    @property
    def regular(self) -> bool:
        """Whether answer and gradient must be right; else something must say that they are not."""
        return not self.flags

    def sample(
        self,
        generator: torch.Generator,
        *,
        size: int,
        batch: tuple[int, ...] = (),
        scale: float | Tensor = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> tuple[Tensor, ...]:
        """Random inputs, ``(*batch, *core)`` each; some problems share an input over the batch.

        Args:
            generator: on the CPU; the same state gives the same inputs.
            size: of the problem, at least 1.
            batch: batch shape.
            scale: unit of the data, one for all problems or ``(*batch,)``: lengths grow with it (or
                whatever else leaves the answer known).
            dtype: of the inputs.
        """
        unit = torch.as_tensor(scale, dtype=torch.float64).expand(batch)
        drawn = self.inputs(Draw(generator, size, batch, unit))
        return tuple(value.to(dtype) for value in drawn)

    def blocks(self, *inputs: Tensor, **parameters: Tensor) -> tuple[Tensor, ...]:
        """:attr:`solution`, always as a tuple.

        Raises:
            ValueError: if none is known.
        """
        if self.solution is None:
            raise ValueError(f"{self.name} has no solution, or more than one.")
        return as_blocks(self.solution(*inputs, **parameters))

    def solver(self) -> KnownAnswer:
        """A solver that returns the answer, to test gradients apart from solvers."""
        return KnownAnswer(self)

    def jacobian(self, *inputs: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """The known derivative: ∂(block)/∂(input), by reverse mode through the closed form.

        Returns:
            For every block a tuple with one ``(*shape of block, *shape of input)`` per input.
        """
        result: tuple[tuple[Tensor, ...], ...] = torch.func.jacrev(
            self.blocks, argnums=tuple(range(len(inputs)))
        )(*inputs)
        return result

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class KnownAnswer:
    """Returns the known solution, in the accuracy of float64 and without multipliers.

    Attributes:
        known: whose answer to return.
    """

    known: KnownProblem

    def solve(self, problem: Problem, operands: Sequence[Tensor]) -> SolverResult:
        """Evaluate the closed form.

        Raises:
            ValueError: if there is none.
        """
        batch = problem.batch_shape(operands)
        exact = [x.double() for x in problem.expand_inputs(operands, batch)]
        captured = captured_tensors(problem.node)
        state = dict(zip(captured, exact[problem.num_inputs :], strict=True))
        y = problem.join(self.known.blocks(*exact[: problem.num_inputs], **state))
        y = y.expand(*batch, problem.num_variables).to(operands[0].dtype)
        status = torch.full(batch, int(Status.CONVERGED), device=y.device)
        return SolverResult(y, None, status, torch.zeros_like(status))
