"""The metrics once more, slowly, as their definitions read."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def naive_metrics(features, labels, weight, bias):
    """The definitions with loops over samples and classes, covariances and pseudo-inverses."""
    (N, d), K = features.shape, len(weight)
    members = [[h for h, y in zip(features, labels, strict=True) if y == k] for k in range(K)]
    means = [sum(group) / len(group) for group in members]
    global_mean = sum(features) / N
    centered = [m - global_mean for m in means]
    within = sum(
        np.outer(h - means[y], h - means[y]) for h, y in zip(features, labels, strict=True)
    )
    within, between = within / N, sum(np.outer(m, m) for m in centered) / K
    M = np.eye(K) - np.ones((K, K)) / K

    def to_simplex(product):
        return np.linalg.norm(product / np.linalg.norm(product) - M / np.sqrt(K - 1))

    def spread(norms):
        return np.std(norms, ddof=1) / np.mean(norms)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    def to_nearest(matrix):
        return 2 - 2 * np.linalg.norm(matrix @ M, "nuc") / np.linalg.norm(matrix) / np.sqrt(K - 1)

    margins, correct, mismatch = [], 0, 0
    for h, y in zip(features, labels, strict=True):
        cosines = [cosine(h - global_mean, w - weight.mean(axis=0)) for w in weight]
        margins.append(cosines[y] - max(c for j, c in enumerate(cosines) if j != y))
        predicted = np.argmax([w @ h + b for w, b in zip(weight, bias, strict=True)])
        nearest = np.argmin([np.linalg.norm(h - m) for m in means])
        correct += predicted == y
        mismatch += predicted != nearest
    H = np.array(centered).T
    norms_H = [np.linalg.norm(m) for m in centered]
    norms_W = [np.linalg.norm(w) for w in weight]
    ranks = [
        (np.linalg.norm(np.array(group), "nuc") / np.linalg.norm(np.array(group))) ** 2
        for group in members
    ]
    return {
        "NC1": np.trace(within @ np.linalg.pinv(between, rcond=1e-12)) / K,
        "VCI": 1
        - np.trace(np.linalg.pinv(within + between, rcond=1e-12) @ between) / min(d, K - 1),
        "NC2": to_simplex(weight @ weight.T),
        "NC3": to_simplex(weight @ H),
        "NC4": np.linalg.norm(weight @ global_mean + bias),
        "equinorm_features": spread(norms_H),
        "equinorm_weights": spread(norms_W),
        "equinorm_difference": abs(spread(norms_H) - spread(norms_W)),
        "numerical_rank": np.mean(ranks),
        "cosine_margin": np.mean(margins),
        "cosine_margins": np.sort(margins),
        "NCC_mismatch": 100 * mismatch / N,
        "accuracy": 100 * correct / N,
        "weight_etf_distance": to_nearest(weight.T),
        "feature_etf_distance": to_nearest(H),
    }


def exact_variability_collapse_index(features, labels, num_classes):
    """VCI in rational arithmetic; Σ_W + Σ_B must be regular."""
    rows = [[Fraction(repr(x)) for x in row] for row in features]
    N, d, K = len(rows), len(rows[0]), num_classes

    def mean(group):
        return [sum(column) / len(group) for column in zip(*group, strict=True)]

    def covariance(vectors, count):
        return [[sum(v[i] * v[j] for v in vectors) / count for j in range(d)] for i in range(d)]

    means = [mean([r for r, y in zip(rows, labels, strict=True) if y == k]) for k in range(K)]
    within = [
        [a - b for a, b in zip(r, means[y], strict=True)] for r, y in zip(rows, labels, strict=True)
    ]
    overall = mean(rows)
    between = covariance([[a - b for a, b in zip(m, overall, strict=True)] for m in means], K)
    total = covariance(within, N)
    # Gauss-Jordan on [Σ_W + Σ_B | Σ_B].
    system = [
        [a + b for a, b in zip(total[i], between[i], strict=True)] + between[i] for i in range(d)
    ]
    for i in range(d):
        pivot = next(r for r in range(i, d) if system[r][i] != 0)
        system[i], system[pivot] = system[pivot], system[i]
        system[i] = [x / system[i][i] for x in system[i]]
        for r in range(d):
            if r != i and (factor := system[r][i]):
                system[r] = [x - factor * y for x, y in zip(system[r], system[i], strict=True)]
    return float(1 - sum(system[i][d + i] for i in range(d)) / min(d, K - 1))
