"""Where solvers start: the node's ``starting_point``, or a generic point.

The generic point is positive and in general position, inside the domain of logarithms, and the Jacobian of
constraints such as ‖y‖² = 1 or YᵀY = I has full rank there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ddn.errors import SignatureError
from ddn.generic import generic_vector

if TYPE_CHECKING:
    from ddn.problem import Problem

__all__ = ["generic_point", "stated_point"]


def generic_point(problem: Problem, operands: Sequence[Tensor]) -> Tensor:
    """A positive point in general position, of length about 1, ``(*batch, m)``."""
    batch, m = problem.batch_shape(operands), problem.num_variables
    generic: Tensor = generic_vector(operands[0].new_empty(m)) / m**0.5
    return generic.expand(*batch, m).clone()


def stated_point(problem: Problem, operands: Sequence[Tensor]) -> Tensor:
    """What the node's ``starting_point`` returns, ``(*batch, m)``.

    Raises:
        SignatureError: that is no solution block, or not one for each.
    """
    expected = [tuple(shape) for shape in problem.output_shapes]

    def single(*operands: Tensor) -> Tensor:
        value = problem.call("starting_point", operands)
        blocks = list(value) if isinstance(value, tuple | list) else [value]
        found = [tuple(b.shape) if isinstance(b, Tensor) else type(b).__name__ for b in blocks]
        if found != expected:
            raise SignatureError(
                f"{type(problem.node).__name__}.starting_point must return solution block(s) of core shape "
                f"{expected} for one problem, but returned {found}."
            )
        return problem.join(blocks)

    point = problem.vectorize(single, (), (), operands)
    return point.expand(*problem.batch_shape(operands), problem.num_variables).clone()
