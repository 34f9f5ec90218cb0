"""The cone program of a CVXPY problem, as a linear function of the problem's parameters.

A problem that follows the rules of disciplined parametrized programming (DPP; Agrawal et al. 2019,
Differentiable convex optimization layers, §4) becomes, whatever the values θ of its parameters,

    argmin_x ½ xᵀP x + qᵀx + d   subject to   A x + s = b,  s ∈ K,

with P, q, d, A, b affine in θ. CVXPY finds the map once; applying it is one sparse product.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ddn.conic.cones import Cone
from ddn.errors import MissingDependencyError

__all__ = ["Canonical", "ConeProgram", "Data", "canonicalize", "import_cvxpy"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Numbers of a batch of cone programs with one sparsity pattern, ``(batch, ...)`` each.

    Attributes:
        P: entries of the upper triangle of P at :attr:`ConeProgram.P_rows`, :attr:`ConeProgram.P_columns`.
        q: linear objective, ``(batch, n)``.
        d: constant of the objective, ``(batch,)``.
        A: entries of A at :attr:`ConeProgram.A_rows`, :attr:`ConeProgram.A_columns`.
        b: right side, ``(batch, m)``.
    """

    P: Array
    q: Array
    d: Array
    A: Array
    b: Array

    @property
    def parts(self) -> tuple[Array, ...]:
        """P, q, d, A, b."""
        return self.P, self.q, self.d, self.A, self.b

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Whether all numbers of a problem are, ``(batch,)``."""
        flags = [np.isfinite(part).all(tuple(range(1, part.ndim))) for part in self.parts]
        return np.asarray(np.logical_and.reduce(flags))

    def of(self, elements: Index) -> Data:
        """The numbers of some problems of the batch."""
        return Data(*(part[elements] for part in self.parts))

    def where(self, kept: NDArray[np.bool_]) -> Data:
        """With zeros for the problems that are not kept."""
        return Data(
            *(np.where(kept.reshape(-1, *(1,) * (part.ndim - 1)), part, 0) for part in self.parts)
        )


@dataclass(frozen=True)
class ConeProgram:
    """argmin ½ xᵀP x + qᵀx + d subject to A x + s = b, s ∈ K, with data affine in parameters θ.

    Attributes:
        num_variables: n, of x.
        num_rows: m, of A.
        cone: K.
        P_rows, P_columns: where the entries of the upper triangle of P stand, column by column.
        A_rows, A_columns: where the entries of A stand, column by column.
        linear: θ ↦ data, one row per number, in the order of :class:`Data`.
        constant: the data at θ = 0.
    """

    num_variables: int
    num_rows: int
    cone: Cone
    P_rows: Index
    P_columns: Index
    A_rows: Index
    A_columns: Index
    linear: Any
    constant: Array

    def data(self, parameters: Array) -> Data:
        """The cone programs at parameters ``(batch, p)``."""
        return self._split((self.linear @ parameters.T).T + self.constant)

    def data_change(self, parameters: Array) -> Data:
        """How the data change with the parameters: the linear part alone."""
        return self._split((self.linear @ parameters.T).T)

    def pull_back(self, gradient: Data) -> Array:
        """Gradients of the parameters ``(batch, p)`` from those of the data."""
        parts = (gradient.P, gradient.q, gradient.d[:, None], gradient.A, gradient.b)
        return np.asarray((self.linear.T @ np.concatenate(parts, -1).T).T)

    def _split(self, numbers: Array) -> Data:
        n, m = self.num_variables, self.num_rows
        ends = np.cumsum([len(self.P_rows), n, 1, len(self.A_rows), m])
        P, q, d, A, b = (np.ascontiguousarray(part) for part in np.split(numbers, ends[:-1], -1))
        return Data(P, q, d[:, 0], A, b)


@dataclass(frozen=True)
class Canonical:
    """A cone program and what CVXPY needs to translate between it and the problem.

    Attributes:
        program: the cone program.
        columns: first entry of θ of every parameter of the cone program, by its identifier.
        reduced: CVXPY's parametrized program.
        chain: its reductions.
        inverse_data: what they need to go back.
        sign: −1 for a problem that maximizes, else 1.
    """

    program: ConeProgram
    columns: dict[int, int]
    reduced: Any
    chain: Any
    inverse_data: Any
    sign: float


def canonicalize(problem: Any, parameters: Sequence[Any]) -> Canonical:
    """The cone program of a DPP problem.

    Args:
        problem: a ``cvxpy.Problem``.
        parameters: all of its parameters; their values are left as they are.
    """
    cvxpy = import_cvxpy()
    # A problem of its own: what CVXPY caches for the user's solves is not touched.
    copy = cvxpy.Problem(problem.objective, problem.constraints)
    with _placeholders(parameters), warnings.catch_warnings():
        # About how long the solver would take, or what values the placeholders have.
        warnings.simplefilter("ignore")
        data, chain, inverse_data = copy.get_problem_data(
            cvxpy.CLARABEL, enforce_dpp=True, solver_opts={}
        )
    reduced = data["param_prob"]
    size = int(reduced.x.size)
    rows = reduced.A.shape[0] // (size + 1)
    constant = reduced.total_param_size  # the column behind those of the parameters

    stacked = _by_rows(reduced.A)
    # CVXPY states A x + b ∈ K; here, as in Clarabel, A x + s = b.
    is_b = stacked.numbers >= rows * size
    A_numbers = stacked.numbers[~is_b]
    b_map = _selection(stacked.numbers[is_b] - rows * size, rows) @ stacked.matrix[is_b]
    if reduced.P is None:
        P_numbers = np.zeros(0, np.int64)
        P_map = sparse.csr_array((0, constant + 1))
    else:
        P_numbers, P_map = _upper_triangle(_by_rows(reduced.P), size)
    everything = sparse.csc_array(
        sparse.vstack([P_map, reduced.q.tocsr(), -stacked.matrix[~is_b], b_map])
    )
    program = ConeProgram(
        size,
        rows,
        Cone.from_cvxpy(data["dims"]),
        P_numbers % size,
        P_numbers // size,
        A_numbers % max(rows, 1),
        A_numbers // max(rows, 1),
        sparse.csr_array(everything[:, :constant]),
        everything[:, [constant]].toarray()[:, 0],
    )
    columns = {key: int(column) for key, column in reduced.param_id_to_col.items() if key != -1}
    maximizes = type(problem.objective).__name__ == "Maximize"
    return Canonical(program, columns, reduced, chain, inverse_data, -1.0 if maximizes else 1.0)


@dataclass(frozen=True)
class _Rows:
    """The rows of a matrix that are not zero, and their numbers in ascending order."""

    numbers: Index
    matrix: Any


def _by_rows(matrix: Any) -> _Rows:
    entries = matrix.tocoo()
    stored = entries.data != 0
    row = np.asarray(entries.row, np.int64)[stored]
    numbers, position = np.unique(row, return_inverse=True)
    shape = (len(numbers), entries.shape[1])
    compressed = sparse.csr_array((entries.data[stored], (position, entries.col[stored])), shape)
    return _Rows(numbers, compressed)


def _upper_triangle(quadratic: _Rows, size: int) -> tuple[Index, Any]:
    """Entries of the upper triangle of (P + Pᵀ)/2, column by column, and the map from θ to them."""
    column, row = np.divmod(quadratic.numbers, size)
    upper = np.minimum(row, column) + np.maximum(row, column) * size
    numbers, position = np.unique(upper, return_inverse=True)
    weight = np.where(row == column, 1.0, 0.5)
    fold = sparse.csr_array((weight, (position, np.arange(len(row)))), (len(numbers), len(row)))
    return numbers, fold @ quadratic.matrix


def _selection(rows: Index, count: int) -> Any:
    return sparse.csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), (count, len(rows)))


@contextmanager
def _placeholders(parameters: Sequence[Any]) -> Iterator[None]:
    """Values for parameters that have none: CVXPY wants numbers where only the pattern matters."""
    with warnings.catch_warnings():
        # CVXPY discourages reading sparse parameters as dense arrays.
        warnings.simplefilter("ignore")
        without = [parameter for parameter in parameters if parameter.value is None]
    try:
        for parameter in without:
            diagonal = parameter.attributes["diag"]
            value = np.eye(parameter.shape[0]) if diagonal else np.ones(parameter.shape)
            parameter.save_value(value)
        yield
    finally:
        for parameter in without:
            parameter.save_value(None)


def import_cvxpy() -> Any:
    """The package, or an error that says how to install it."""
    try:
        importlib.import_module("clarabel")
        return importlib.import_module("cvxpy")
    except ImportError as error:
        raise MissingDependencyError("cvxpy", "cvxpy", "ddn.CvxpyNode") from error
