"""Between a CVXPY problem and its cone program: which number is which.

CVXPY rewrites variables (a symmetric matrix becomes its upper triangle), parameters and constraints on the
way to the cone program. Going back, every number of the problem is one number of the cone program times a
constant, or zero. Instead of repeating CVXPY's rules, its own functions are run once, on numbers that
give away where they come from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ddn.conic.canonical import Canonical
from ddn.errors import DeclarativeNodeError

__all__ = ["Gather", "parameter_gather", "trace_duals", "trace_variables"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gather:
    """A tensor each entry of which is a number of a vector times a constant.

    Attributes:
        shape: of the tensor.
        index: of the number, one per entry in row-major order.
        weight: the constants.
    """

    shape: tuple[int, ...]
    index: Tensor
    weight: Tensor

    def __call__(self, vector: Tensor) -> Tensor:
        """The tensor ``(*batch, *shape)`` from vectors ``(*batch, n)``."""
        taken = vector[..., self.index.to(vector.device)] * self.weight.to(vector)
        return taken.reshape((*vector.shape[:-1], *self.shape))


def trace_variables(canonical: Canonical, variables: Sequence[Any]) -> list[Gather]:
    """How the values of the variables are found in x."""
    reduced = canonical.reduced

    def recover(x: Array) -> list[Array]:
        values = reduced.split_solution(x)
        for reduction in reversed(canonical.chain.reductions):
            values = reduction.var_forward(values)
        return [_dense(values[variable.id]) for variable in variables]

    shapes = [variable.shape for variable in variables]
    return _trace(recover, canonical.program.num_variables, shapes)


def trace_duals(canonical: Canonical, constraints: Sequence[Any]) -> list[tuple[Gather, ...]]:
    """How the dual values of the constraints are found in z; one per dual variable of the constraint."""

    def recover(z: Array) -> list[Array]:
        raw = SimpleNamespace(
            status="Solved",
            x=np.zeros(canonical.program.num_variables),
            z=z,
            obj_val=0.0,
            iterations=0,
            solve_time=0.0,
        )
        solution = canonical.chain.invert(raw, canonical.inverse_data)
        values: list[Array] = []
        for constraint in constraints:
            found = solution.dual_vars[constraint.id]
            # As Problem.unpack does: several dual variables share one vector.
            saved = [variable.value for variable in constraint.dual_variables]
            constraint.save_dual_value(found)
            values += [_dense(variable.value) for variable in constraint.dual_variables]
            for variable, value in zip(constraint.dual_variables, saved, strict=True):
                variable.save_value(value)
        return values

    shapes = [v.shape for constraint in constraints for v in constraint.dual_variables]
    gathers = iter(_trace(recover, canonical.program.num_rows, shapes))
    return [tuple(next(gathers) for _ in c.dual_variables) for c in constraints]


def parameter_gather(canonical: Canonical, parameters: Sequence[Any]) -> Tensor:
    """Where the entries of θ stand among the values of all parameters, each in row-major order.

    Args:
        canonical: the cone program.
        parameters: in the order in which their values are concatenated.
    """
    index = np.full(canonical.program.linear.shape[1], -1, np.int64)
    first = 0
    for parameter in parameters:
        number = np.arange(1.0, parameter.size + 1).reshape(parameter.shape)
        values = {parameter.id: number}
        for reduction in canonical.chain.reductions:
            values = reduction.param_forward(values)
        for key, value in values.items():
            if key in canonical.columns:
                found = np.rint(np.asarray(value).flatten(order="F")).astype(np.int64)
                column = canonical.columns[key]
                index[column : column + found.size] = first + found - 1
        first += parameter.size
    if (index < 0).any():
        raise DeclarativeNodeError(
            "CvxpyNode: CVXPY's reductions of this problem change its parameters in a way that is not "
            "understood here. State it with real parameters, without geometric programming."
        )
    return torch.from_numpy(index)


def _trace(
    recover: Callable[[Array], list[Array]], size: int, shapes: Sequence[tuple[int, ...]]
) -> list[Gather]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ones = recover(np.ones(size))
        numbered = recover(np.arange(1.0, size + 1))
        check = np.random.default_rng(0).standard_normal(size)
        checked = recover(check)
    gathers = []
    for shape, one, number, value in zip(shapes, ones, numbered, checked, strict=True):
        weight = one.reshape(-1)
        index = np.rint(number.reshape(-1) / np.where(weight == 0, 1.0, weight)).astype(np.int64)
        index = np.where(weight == 0, 0, index - 1)
        inside = (index >= 0) & (index < size)
        exact = inside.all() and np.allclose(weight * check[index], value.reshape(-1), atol=1e-12)
        if not exact or one.size != int(np.prod(shape, dtype=np.int64)):
            raise DeclarativeNodeError(
                "CvxpyNode: CVXPY's reductions of this problem mix numbers of the cone program in a way "
                "that is not understood here. State it with real variables, without geometric programming."
            )
        gathers.append(Gather(shape, torch.from_numpy(index), torch.from_numpy(weight)))
    return gathers


def _dense(value: Any) -> Array:
    return np.asarray(value.toarray() if sparse.issparse(value) else value, np.float64)
