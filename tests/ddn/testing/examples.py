"""Random examples of the problems of the zoo: sizes, batches, scales, memory layouts, dtypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from ddn.node import DeclarativeNode
from ddn.testing.problems import KnownProblem

__all__ = ["Example", "examples"]


def _transposed(x: Tensor) -> Tensor:
    if x.ndim < 2:
        return _strided(x)
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def _strided(x: Tensor) -> Tensor:
    return torch.stack([torch.full_like(x, torch.nan), x], -1)[..., 1]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": torch.Tensor.contiguous,
    "transposed": _transposed,
    "strided": _strided,
}


@dataclass(frozen=True)
class Example:
    """Everything that decides about one run of a problem; printed when it fails.

    Attributes:
        problem: of the zoo.
        seed: of the data and the cotangents.
        size: of the problem.
        batch: batch shape.
        exponent: log10 of the scale.
        mixed: whether every problem of the batch gets another scale.
        layouts: memory layout of every input.
        differentiated: which inputs require grad; parameters always do.
        dtype: of the inputs.
        second_order: whether second derivatives are checked.
        certified: whether the certificate of a regular problem is checked.
        joint: whether forward mode runs on tensors that require grad, or by itself.
        solved: whether the node solves the problem, or is given the known answer.
    """

    problem: KnownProblem
    seed: int
    size: int
    batch: tuple[int, ...]
    exponent: float
    mixed: bool
    layouts: tuple[str, ...]
    differentiated: tuple[bool, ...]
    dtype: torch.dtype
    second_order: bool
    certified: bool
    joint: bool
    solved: bool

    def node(self) -> DeclarativeNode:
        """The node, in the dtype of the inputs."""
        known = self.problem.solution is not None
        solver = self.problem.solver() if known and not self.solved else None
        return self.problem.node(solver=solver).to(self.dtype)

    def generator(self) -> torch.Generator:
        """A fresh one: the same numbers on every call."""
        return torch.Generator().manual_seed(self.seed)

    def sample(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The inputs."""
        exponent = torch.full(self.batch, self.exponent, dtype=torch.float64)
        if self.mixed:
            other = torch.rand(self.batch, generator=generator, dtype=torch.float64)
            exponent = 12 * other - 6
        inputs = self.problem.sample(
            generator, size=self.size, batch=self.batch, scale=10**exponent, dtype=self.dtype
        )
        return tuple(LAYOUTS[name](x) for name, x in zip(self.layouts, inputs, strict=True))

    def __repr__(self) -> str:
        values = {k: v for k, v in vars(self).items() if k != "problem"}
        listed = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return f"Example(by_name({self.problem.name!r}), {listed})"


@st.composite
def examples(
    draw: Any, problem: KnownProblem, dtypes: tuple[torch.dtype, ...], max_size: int = 6
) -> Example:
    """Examples of one problem; dtypes are drawn with equal probability."""
    count = len(problem.sample(torch.Generator(), size=1))
    differentiated = draw(st.tuples(*[st.booleans()] * count).filter(any))
    return Example(
        problem=problem,
        seed=draw(st.integers(0, 2**32 - 1)),
        size=draw(st.integers(1, max_size)),
        batch=tuple(draw(st.lists(st.integers(1, 3), max_size=2))),
        exponent=draw(st.floats(-6, 6)),
        mixed=draw(st.booleans()),
        layouts=draw(st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * count)),
        differentiated=differentiated,
        dtype=draw(st.sampled_from(dtypes)),
        second_order=draw(st.integers(0, 3)) == 0,
        certified=draw(st.integers(0, 3)) == 0,
        joint=draw(st.integers(0, 3)) > 0,
        solved=draw(st.integers(0, 2)) == 0,
    )
