"""One problem of a batch as SciPy sees it: float64 arrays, in units that suit the problem.

With lengths in units of t, the objective in units of φ and the row i of (h, g) in units of ρ_i, SciPy solves

    min (f(t z) − f₀)/φ   subject to   h_i(t z)/ρ_i = 0,  g_i(t z)/ρ_i ≤ 0,  l/t ≤ z ≤ b/t

over the variables that are free; those whose bounds agree are constants. Its multipliers μ̂ are those of the
node by μ_i = φ μ̂_i/ρ_i. Tolerances of SciPy are absolute numbers: in these units they are relative ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn.constraints import flatten_constraints
from ddn.functional import reverse
from ddn.problem import Problem

__all__ = ["Array", "EscapeError", "Frame", "SingleProblem"]

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# What a function is worth where it is not defined: no line search stays there, and it can still interpolate.
_UNDEFINED = 1e10
# Size, in units of the problem, from which other units are called for.
_FAR = _EPS**-0.5


class EscapeError(Exception):
    """The iterates have left the scale of their problem, with less and less objective.

    Attributes:
        z: the point.
    """

    def __init__(self, z: Array) -> None:
        super().__init__("The iterates leave the scale of the problem.")
        self.z = z


@dataclass(frozen=True)
class Frame:
    """Units and constants of one problem.

    Attributes:
        y: a point ``(m,)``; what it holds for variables that are not free is their value.
        free: which variables are free, booleans ``(m,)``.
        length: t.
        force: φ/t.
        rows: ρ, ``(p + r,)``.
        offset: f₀.
        lower: l of the free variables, ``(n,)``; −∞ where there is none.
        upper: b likewise.
        num_equalities: p.
    """

    y: Array
    free: NDArray[np.bool_]
    length: float
    force: float
    rows: Array
    offset: float
    lower: Array
    upper: Array
    num_equalities: int

    @property
    def start(self) -> Array:
        """The point in these units, ``(n,)``."""
        z: Array = self.y[self.free] / self.length
        return np.clip(z, *self.bounds)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """In these units, ``(n,)`` each."""
        return self.lower / self.length, self.upper / self.length

    @property
    def is_bounded(self) -> bool:
        """Whether any free variable has a bound."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def point(self, z: Array) -> Array:
        """The solution vector ``(m,)``."""
        y = self.y.copy()
        y[self.free] = np.clip(self.length * z, self.lower, self.upper)
        return y

    def multipliers(self, scaled: Array) -> Array:
        """μ from μ̂, ``(p + r,)``."""
        return self.force * self.length * scaled / self.rows


class SingleProblem:
    """Values and exact derivatives by reverse passes; those at the last point are remembered.

    Args:
        problem: the problem of the node.
        operands: of one problem, without batch dimensions.
        frame: its units.
        lock: held while the node is called; None where one thread calls it.
    """

    def __init__(
        self,
        problem: Problem,
        operands: Sequence[Tensor],
        frame: Frame,
        lock: threading.Lock | None = None,
    ) -> None:
        self.frame = frame
        self._problem = problem
        self._operands = list(operands)
        self._lock: AbstractContextManager[Any] = nullcontext() if lock is None else lock
        units = np.concatenate([[frame.force * frame.length], frame.rows])
        self._units = units
        self._last = np.full(int(frame.free.sum()), np.nan)
        self._pullback: Callable[..., tuple[Tensor, ...]] | None = None
        self._values: Array = np.empty(0)
        self._jacobian: Array | None = None
        self._lowest = np.inf
        self.num_gradients = 0

    @property
    def num_rows(self) -> int:
        """p + r."""
        return len(self.frame.rows)

    # -- values and first derivatives -----------------------------------------------------------

    def objective(self, z: Array) -> float:
        """f in its unit, above f₀."""
        return float(self._evaluate(z)[0])

    def gradient(self, z: Array) -> Array:
        """Of the objective, ``(n,)``."""
        row: Array = self._derivatives(z)[0].copy()
        return row

    def equality(self, z: Array) -> Array:
        """h, ``(p,)``."""
        return self._evaluate(z)[1 : 1 + self.frame.num_equalities].copy()

    def equality_jacobian(self, z: Array) -> Array:
        """∂h/∂z, ``(p, n)``."""
        return self._derivatives(z)[1 : 1 + self.frame.num_equalities].copy()

    def inequality(self, z: Array) -> Array:
        """The stated rows of g ≤ 0, ``(r,)``."""
        return self._evaluate(z)[1 + self.frame.num_equalities :].copy()

    def inequality_jacobian(self, z: Array) -> Array:
        """∂g/∂z, ``(r, n)``."""
        return self._derivatives(z)[1 + self.frame.num_equalities :].copy()

    def violation(self, z: Array) -> tuple[float, Array]:
        """½‖(h, max(g, 0))‖² and its gradient."""
        residual = self._evaluate(z)[1:].copy()
        p = self.frame.num_equalities
        residual[p:] = np.maximum(residual[p:], 0)
        return 0.5 * float(residual @ residual), residual @ self._derivatives(z)[1:]

    # -- second derivatives ---------------------------------------------------------------------

    def hessian_product(self, z: Array, weights: Array) -> Callable[[Array], Array]:
        """v ↦ ∇²(w₀ f + Σ w_i c_i) v, by one reverse pass through a gradient each.

        Args:
            z: where, ``(n,)``.
            weights: w, ``(1 + p + r,)``.
        """
        scaled = torch.from_numpy(self.frame.length**2 * weights / self._units)
        with self._lock:
            y = torch.from_numpy(self.frame.point(z))

            def first(y: Tensor) -> Tensor:
                rows, pullback = reverse(self._rows, y)
                gradient: Tensor = pullback(scaled.to(rows))[0]
                return gradient

            _, pullback = reverse(first, y)

        def product(v: Array) -> Array:
            direction = np.zeros_like(self.frame.y)
            direction[self.frame.free] = np.ravel(v)
            with self._lock:
                result = pullback(torch.from_numpy(direction))[0]
            entries: Array = np.nan_to_num(self._to_array(result)[self.frame.free])
            return entries

        return product

    def objective_weights(self) -> Array:
        """Those of the objective alone."""
        weights = np.zeros(1 + self.num_rows)
        weights[0] = 1
        return weights

    def hessian(self, z: Array) -> Array:
        """∇²f, ``(n, n)``."""
        product = self.hessian_product(z, self.objective_weights())
        n = len(z)
        rows = np.stack([product(e) for e in np.eye(n)]) if n else np.empty((0, 0))
        symmetric: Array = 0.5 * (rows + rows.T)
        return symmetric

    # -- one evaluation of the node -------------------------------------------------------------

    def _evaluate(self, z: Array) -> Array:
        if self._pullback is not None and np.array_equal(z, self._last):
            return self._values
        with self._lock:
            y = torch.from_numpy(self.frame.point(z))
            rows, self._pullback = reverse(self._rows, y)
        raw = self._to_array(rows)
        self._last, self._jacobian = np.array(z), None
        values = raw.copy()
        values[0] -= self.frame.offset
        values /= self._units
        self._values = np.where(np.isfinite(values), values, _UNDEFINED)
        self._watch(values)
        return self._values

    def _derivatives(self, z: Array) -> Array:
        self._evaluate(z)
        if self._jacobian is None:
            assert self._pullback is not None
            count = len(self._units)
            basis = torch.eye(count, dtype=torch.float64)
            with self._lock:
                if count == 1:
                    jacobian = self._pullback(basis[0])[0].unsqueeze(0)
                else:
                    jacobian = torch.func.vmap(self._pullback)(basis)[0]
            self.num_gradients += 1
            scaled = self._to_array(jacobian)[:, self.frame.free]
            scaled = scaled * (self.frame.length / self._units[:, None])
            self._jacobian = np.where(np.isfinite(scaled), scaled, 0.0)
        return self._jacobian

    def _rows(self, y: Tensor) -> Tensor:
        """f, h and the stated rows of g as one vector."""
        problem, operands = self._problem, self._operands
        rows = [problem.objective_of_one(y, *operands).reshape(1)]
        if problem.has_equality:
            rows.append(problem.equality_of_one(y, *operands))
        if problem.node.inequality is not None:
            stated = problem.call("inequality", operands, *problem.split(y))
            rows.append(flatten_constraints(stated).to(y.dtype))
        return torch.cat(rows)

    def _watch(self, values: Array) -> None:
        """Notice when the iterates leave their scale, feasible and with less and less objective.

        Raises:
            EscapeError: they do.
        """
        size = float(np.abs(self._last).max(initial=0))
        falls = values[0] < self._lowest
        if falls and (size > _FAR or values[0] == -np.inf):
            violated = values[1:].copy()
            p = self.frame.num_equalities
            violated[p:] = np.maximum(violated[p:], 0)
            if np.abs(violated).max(initial=0) <= _EPS**0.5 * max(size, 1):
                raise EscapeError(self._last)
        if falls:
            self._lowest = float(values[0])

    @staticmethod
    def _to_array(tensor: Tensor) -> Array:
        result: Array = tensor.numpy(force=True)
        return result
