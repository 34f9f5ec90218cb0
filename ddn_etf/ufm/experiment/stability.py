"""The largest learning rate at which gradient descent is stable where an experiment starts.

On a quadratic function with largest curvature λ, gradient descent v ← v - η m, m ← μ m + ∇f with
momentum μ converges for η < 2 (1 + μ)/λ and diverges above (Polyak, 1964): the edge of stability.
Features of fixed length h = τ f/‖f‖ have no largest rate that makes a run diverge: the loss does not
see the length of f, its gradient is orthogonal to f and shrinks with 1/‖f‖, so that a step far beyond
the edge only makes f long, and all later steps short (Arora, Li and Lyu, "Theoretical Analysis of Auto
Rate-Tuning by Batch Normalization", 2019). Such a run is one large step, and then nearly stands still.
The edge at the start is therefore a limit that a grid of learning rates can have, one for each head
and size.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import scipy.sparse.linalg
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence
from torch import Tensor
from torch.nn.functional import cross_entropy

from ddn.errors import SolveError
from ddn_etf.methods import Method
from ddn_etf.ufm.experiment.settings import ExperimentSettings
from ddn_etf.ufm.experiment.start import starting_point

__all__ = ["largest_stable_rate"]

_STEP = 1e-5
_TOLERANCE = 5e-2


def largest_stable_rate(method: Method, settings: ExperimentSettings, seed: int) -> float:
    """2 (1 + μ)/(N λ): λ is the largest eigenvalue of the Hessian of the loss in the features.

    It is that of the features at the start of the run with this seed, with the head in training mode,
    so that a nearest frame follows the features. It is computed in float64 by the Lanczos method on
    differences of gradients, to two or three per cent. (The gradient of a nearest frame takes its proximal
    point as constant, so that its derivative is symmetric to about δ = 1e-3.)

    Args:
        method: which head. What a head learns itself is held fixed.
        settings: sizes, temperature and momentum.
        seed: of the starting point.

    Returns:
        The rate of the features divided by N, as :attr:`ExperimentSettings.feature_rates` are; infinite
        where no direction curves upwards.

    Raises:
        SolveError: the Lanczos method has not converged.
    """
    features, head, labels = starting_point(method, replace(settings, double=True), seed)
    point = features.detach()
    step = _STEP * point.norm()

    def gradient(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        # A head remembers what it has seen.
        loss = cross_entropy(copy.deepcopy(head)(at, labels), labels)
        (slope,) = torch.autograd.grad(loss, at)
        return slope

    def product(x: NDArray[np.float64]) -> NDArray[np.float64]:
        direction = torch.from_numpy(np.ascontiguousarray(x)).view_as(point)
        length = direction.norm()
        offset = step / length * direction
        difference = gradient(point + offset) - gradient(point - offset)
        image: NDArray[np.float64] = (difference * (length / (2 * step))).reshape(-1).numpy()
        return image

    size = point.numel()
    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(size)
    try:
        (largest,) = scipy.sparse.linalg.eigsh(
            operator, k=1, which="LA", v0=start, tol=_TOLERANCE, return_eigenvectors=False
        )
    except ArpackNoConvergence as error:
        raise SolveError(
            f"the Lanczos method has not found the largest curvature of head {method.name!r} at seed "
            f"{seed}; leave stable_rates_only out"
        ) from error
    curvature = float(largest) * len(point)
    return 2 * (1 + settings.momentum) / curvature if curvature > 0 else math.inf
