"""Softmax codes: frames for more classes than a simplex has room for, K > d + 1.

Jiang, Zhou, Wang, Qu, Mixon, You and Zhu, "Generalized Neural Collapse for a Large Number of
Classes" (2023): in the limit of a vanishing temperature, features and classifier on the sphere
collapse to the frame that maximizes the smallest *one-vs-rest distance*,

    max_W min_k ρ_k(W)   subject to  ‖w_k‖ = 1,      ρ_k(W) = dist(w_k, conv{w_j : j ≠ k}).

A distance to a convex set is a margin (their Lemma 3.2), so that this is the problem "HardMax",

    ρ_k = max over ‖h_k‖ ≤ 1 of min over j ≠ k of ⟨w_k - w_j, h_k⟩,

whose smooth version with sharpness β is the cross entropy of the other classes against class k:

    min over W, H of  (1/β) log Σ_k Σ_{j≠k} exp(β ⟨w_j - w_k, h_k⟩),

off by at most log(K(K-1))/β. It is minimized for a growing β, each time from where the last left
off. The result is exact to about 1e-6 in the distance, and is a local maximum, the best of several.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from ddn.errors import SolveError
from ddn_etf.errors import FrameSizeError
from ddn_etf.frames._rounding import round_once
from ddn_etf.frames.rotation import as_frame, check_generator
from ddn_etf.frames.simplex import simplex_etf
from ddn_etf.validation import check_count, check_num_classes

__all__ = ["maximize_one_vs_rest_distance", "one_vs_rest_distances", "softmax_code"]

_SHARPNESS = [10.0 * 4**i for i in range(9)]


def softmax_code(
    num_classes: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    starts: int = 4,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """argmax_W min_k dist(w_k, conv{w_j : j ≠ k})  subject to  ‖w_k‖ = 1: K unit vectors, (K, d).

    In closed form where it is known: the simplex ETF for K <= d + 1, the regular polygon for d = 2.
    Otherwise found numerically (:func:`maximize_one_vs_rest_distance`), as a local maximum, the best
    of several; for d + 2 <= K <= 2d the maximum is known to be 1. Measure a result by
    :func:`one_vs_rest_distances`.

    Args:
        num_classes: K >= 2.
        dim: d >= 2, or d = 1 with K = 2.
        generator: source of the starting points, and of the rotation in closed form; by default one
            with seed 0, and no rotation.
        starts: number of starting points, at least 1.
        dtype: of the result; the default dtype of torch if not given.
        device: of the result.

    Raises:
        TypeError: a size is not an integer, ``dtype`` not a floating-point type, or no generator.
        ValueError: a number below 1.
        FrameSizeError: K < 2, or more than two classes in one dimension.
        SolveError: no start led to distinct vectors.

    Source: Jiang et al. (2023), eq. 4 and Theorem 3.3.
    """
    check_num_classes(num_classes)
    check_count("dim", dim, 1)
    check_count("starts", starts, 1)
    if dim == 1 and num_classes > 2:
        raise FrameSizeError(
            f"dim is 1 for {num_classes} classes: only two unit vectors fit on a line; use dim >= 2"
        )
    if num_classes <= dim + 1:
        return simplex_etf(num_classes, dim, generator=generator, dtype=dtype, device=device)
    if dim == 2:
        turn = 0.0 if generator is None else math.tau * _uniform(generator)
        steps = torch.arange(num_classes, dtype=torch.float64, device="cpu")
        angle = turn + math.tau * steps / num_classes
        return round_once(torch.stack([angle.cos(), angle.sin()], dim=1), dtype, device)
    code = maximize_one_vs_rest_distance(num_classes, dim, generator=generator, starts=starts)
    return round_once(code, dtype, device)


def one_vs_rest_distances(frame: Tensor) -> Tensor:
    """ρ_k = dist(w_k, conv{w_j : j ≠ k}), exactly; (K,), float64, on the host.

    With A = [w_j - w_k], j ≠ k, the distance is the smallest norm in conv(A), a quadratic program.
    Its solution is λ = x/Σx for the nonnegative least-squares problem

        min over x ≥ 0 of  ‖A x‖² + (1ᵀx - 1)² ,

    because for x = s λ with 1ᵀλ = 1 the best s leaves ‖Aλ‖²/(1 + ‖Aλ‖²), which increases with
    ‖Aλ‖. An active-set method solves it in finitely many steps (Lawson and Hanson 1974).

    Args:
        frame: W, (K, d), K >= 2; of any length.

    Raises:
        ShapeError, DtypeError, FeatureError: the frame is not a finite floating-point matrix.
        FrameSizeError: K < 2, or a frame of zeros.
    """
    vectors = as_frame(frame).numpy()
    check_num_classes(len(vectors))
    scale = np.abs(vectors).max()
    distances = [
        scale * _smallest_norm(np.delete(vectors / scale, k, 0) - w / scale)
        for k, w in enumerate(vectors)
    ]
    return torch.tensor(distances, dtype=torch.float64, device="cpu")


def _uniform(generator: torch.Generator) -> float:
    check_generator(generator)
    return float(torch.rand((), generator=generator, device=generator.device))


def _smallest_norm(points: np.ndarray) -> float:
    """Distance from the origin to the convex hull of the rows."""
    augmented = np.vstack([points.T, np.ones(len(points))])
    target = np.zeros(len(augmented))
    target[-1] = 1
    weights, _ = scipy.optimize.nnls(augmented, target, maxiter=30 * len(points))
    return float(np.linalg.norm(points.T @ weights) / weights.sum())


def maximize_one_vs_rest_distance(
    num_classes: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    starts: int = 4,
) -> Tensor:
    """The best local maximum of min_k ρ_k(W) over unit vectors, for any K and d; (K, d), float64.

    L-BFGS over unnormalised W and H for a growing sharpness β, from random starts.

    Args:
        num_classes: K >= 2.
        dim: d >= 1.
        generator: source of the starting points; by default one with seed 0.
        starts: number of starting points, at least 1.

    Raises:
        TypeError, ValueError: an argument is not an integer in its range.
        SolveError: no start led to distinct vectors.
    """
    check_num_classes(num_classes)
    check_count("dim", dim, 1)
    check_count("starts", starts, 1)
    if generator is None:
        generator = torch.Generator(device="cpu").manual_seed(0)
    check_generator(generator)
    best, widest = None, 0.0
    for _ in range(starts):
        start = torch.randn(
            num_classes, dim, dtype=torch.float64, generator=generator, device=generator.device
        )
        code = _ascend(start.cpu())
        distance = float(one_vs_rest_distances(code).min())
        if distance > widest:
            best, widest = code, distance
    if best is None:
        raise SolveError(
            f"no start led to {num_classes} distinct vectors in {dim} dimensions: try more starts, "
            "or another generator"
        )
    return best


def _ascend(start: Tensor) -> Tensor:
    """Follow the maximum of the smooth problem as β grows."""
    shape = (2, *start.shape)
    point = torch.stack([start, start]).flatten().numpy()
    other = ~torch.eye(len(start), dtype=torch.bool, device="cpu")
    for beta in _SHARPNESS:

        def loss(flat: np.ndarray, beta: float = beta) -> tuple[float, np.ndarray]:
            free = torch.tensor(flat, requires_grad=True, device="cpu")
            W, H = torch.nn.functional.normalize(free.reshape(shape), dim=2)
            logits = H @ W.mT
            value = (beta * (logits - logits.diagonal()[:, None]))[other].logsumexp(0) / beta
            (gradient,) = torch.autograd.grad(value, free)
            return value.item(), gradient.numpy()

        options = {"maxiter": 500, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-10}
        point = scipy.optimize.minimize(loss, point, jac=True, method="L-BFGS-B", options=options).x
        # The same directions, with unit length again.
        unit = torch.nn.functional.normalize(torch.from_numpy(point).reshape(shape), dim=2)
        point = unit.flatten().numpy()
    return torch.from_numpy(point).reshape(shape)[0]
