"""Three ways to a minimum: gradient descent, LBFGS, and Newton's method in a trust region.

Each is an object with the numbers it needs and a method ``minimize(model, start)``. The last two are
SciPy's, given exact gradients and Hessian-vector products; they compute in float64 on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.optimize
import scipy.sparse.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddn_etf.ufm.checks import check_number
from ddn_etf.ufm.features_model import FeaturesModel
from ddn_etf.validation import check_count

__all__ = ["LBFGS", "GradientDescent", "Minimization", "Solver", "TrustRegion"]

Array = NDArray[np.float64]

_PATIENCE = 20


@dataclass(frozen=True, eq=False)
class Minimization:
    """Where a solver stopped.

    Attributes:
        vector: the point (size,), detached.
        value: f there.
        gradient_norm: ‖∇f‖₂ there.
        iterations: steps taken.
        converged: whether the gradient is within the solver's tolerance.
        history: f at the start and after every step.
    """

    vector: Tensor
    value: float
    gradient_norm: float
    iterations: int
    converged: bool
    history: tuple[float, ...]


class Solver(Protocol):
    """Anything that minimises a model."""

    def minimize(self, model: FeaturesModel, start: Tensor) -> Minimization:
        """A point with small gradient, reached from ``start``."""
        ...


@dataclass(frozen=True)
class GradientDescent:
    """v ← v - η m,  m ← μ m + ∇f(v): gradient descent with momentum (Polyak, 1964).

    It computes in the dtype and on the device of the start.

    Args:
        learning_rate: η > 0.
        momentum: μ in [0, 1).
        tolerance: of ‖∇f‖₂, to stop at.
        max_iterations: steps at most.

    Raises:
        TypeError: no number, or not a whole one where one is needed.
        ValueError: a number is out of its range.
    """

    learning_rate: float
    momentum: float = 0.9
    tolerance: float = 1e-8
    max_iterations: int = 100_000

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate)
        check_number("momentum", self.momentum, inclusive=True)
        if self.momentum >= 1:
            raise ValueError(
                f"momentum must lie in [0, 1), found {self.momentum}: from 1 on it never decays"
            )
        _check_stopping(self.tolerance, self.max_iterations)

    def minimize(self, model: FeaturesModel, start: Tensor) -> Minimization:
        """Steps until the gradient is small, or there are enough of them.

        Raises:
            FloatingPointError: the objective is no longer finite; a smaller learning rate helps.
        """
        vector, speed = start.detach().clone(), torch.zeros_like(start)
        value, gradient = model.value_and_gradient(vector)
        history = [value.item()]
        while gradient.norm() > self.tolerance and len(history) <= self.max_iterations:
            speed = self.momentum * speed + gradient
            vector = vector - self.learning_rate * speed
            value, gradient = model.value_and_gradient(vector)
            history.append(value.item())
            if not math.isfinite(history[-1]):
                raise FloatingPointError(
                    f"the objective is {history[-1]} after {len(history) - 1} steps; use a learning "
                    f"rate below {self.learning_rate}"
                )
        return _finish(model, vector, self.tolerance, len(history) - 1, history)


@dataclass(frozen=True)
class LBFGS:
    """The limited-memory method of Broyden, Fletcher, Goldfarb and Shanno, by SciPy (L-BFGS-B).

    Args:
        tolerance: of the largest entry of ∇f, to stop at.
        max_iterations: steps at most.
        memory: number of curvature pairs.

    Raises:
        TypeError: no number, or not a whole one where one is needed.
        ValueError: a number is out of its range.
    """

    tolerance: float = 1e-9
    max_iterations: int = 10_000
    memory: int = 30

    def __post_init__(self) -> None:
        _check_stopping(self.tolerance, self.max_iterations)
        check_count("memory", self.memory, 1)

    def minimize(self, model: FeaturesModel, start: Tensor) -> Minimization:
        """Steps until the gradient is small, or rounding ends the progress."""
        options = {
            "gtol": self.tolerance,
            "ftol": 0.0,
            "maxiter": self.max_iterations,
            "maxfun": 4 * self.max_iterations,
            "maxcor": self.memory,
        }
        return _scipy(model, start, "L-BFGS-B", options, self.tolerance * math.sqrt(model.size))


@dataclass(frozen=True)
class TrustRegion:
    """Newton's method in a trust region, its steps by conjugate gradients: SciPy's ``trust-ncg``.

    It follows directions of negative curvature, and so leaves the neighbourhood of strict saddles
    sooner than a descent method. Where values of f can no longer tell points apart, Newton steps on
    ∇f go on as long as they halve its norm; they are of least norm, by MINRES, since minima are not
    isolated (any rotation of one is another). The method relies on second derivatives: with ReLU it
    may stop short of a minimum, and :class:`LBFGS` is the better choice.

    Args:
        tolerance: of ‖∇f‖₂, to stop at.
        max_iterations: steps at most.

    Raises:
        TypeError: no number, or not a whole one where one is needed.
        ValueError: a number is out of its range.
    """

    tolerance: float = 1e-9
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        _check_stopping(self.tolerance, self.max_iterations)

    def minimize(self, model: FeaturesModel, start: Tensor) -> Minimization:
        """Steps until the gradient is small, or there are enough of them."""
        options = {"gtol": self.tolerance, "maxiter": self.max_iterations}
        return _scipy(model, start, "trust-ncg", options, self.tolerance)


def _check_stopping(tolerance: float, max_iterations: int) -> None:
    check_number("tolerance", tolerance)
    check_count("max_iterations", max_iterations, 1)


def _scipy(
    model: FeaturesModel, start: Tensor, method: str, options: dict[str, Any], tolerance: float
) -> Minimization:
    function = _AsArrays(model)
    first = start.detach().to("cpu", torch.float64).numpy()
    history = [function.value_and_gradient(first)[0]]

    def remember(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        history.append(float(intermediate_result.fun))
        # A trust region that has shrunk this often in a row is below the rounding of f.
        if newton and len(history) > _PATIENCE and history[-1] == history[-_PATIENCE]:
            raise StopIteration

    newton = method == "trust-ncg"
    hessian_product = {"hessp": function.hessian_product} if newton else {}
    result = scipy.optimize.minimize(
        function.value_and_gradient,
        first,
        method=method,
        jac=True,
        options=options,
        callback=remember,
        **hessian_product,
    )
    x = np.array(result.x, dtype=np.float64)
    if newton:
        x = _polish(function, x, tolerance)
    vector = torch.from_numpy(x)
    return _finish(model, vector, tolerance, int(result.nit), history)


def _polish(function: _AsArrays, x: Array, tolerance: float) -> Array:
    """Newton's method for ∇f = 0, as long as every step halves ‖∇f‖."""
    gradient = function.value_and_gradient(x)[1]
    size = len(x)
    while np.linalg.norm(gradient) > tolerance:
        hessian = scipy.sparse.linalg.LinearOperator(
            (size, size), matvec=lambda v, x=x: function.hessian_product(x, v), dtype=np.float64
        )
        step, _ = scipy.sparse.linalg.minres(hessian, -gradient, rtol=1e-6, maxiter=5 * size)
        following = function.value_and_gradient(x + step)[1]
        if not np.linalg.norm(following) < np.linalg.norm(gradient) / 2:
            break
        x, gradient = x + step, following
    return x


def _finish(
    model: FeaturesModel, vector: Tensor, tolerance: float, iterations: int, history: list[float]
) -> Minimization:
    value, gradient = model.value_and_gradient(vector)
    norm = gradient.norm().item()
    return Minimization(vector, value.item(), norm, iterations, norm <= tolerance, tuple(history))


class _AsArrays:
    """A model as SciPy calls it; the Hessian of the last point is kept for all its directions."""

    def __init__(self, model: FeaturesModel) -> None:
        self._model = model
        self._point: Array | None = None

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        value, gradient = self._model.value_and_gradient(torch.from_numpy(x.copy()))
        return value.item(), gradient.numpy()

    def hessian_product(self, x: Array, direction: Array) -> Array:
        if self._point is None or not np.array_equal(x, self._point):
            self._point = x.copy()
            self._product = self._model.curvature(torch.from_numpy(self._point))
        image: Array = self._product(torch.from_numpy(direction.copy())).numpy()
        return image
