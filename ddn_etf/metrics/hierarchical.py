"""How bad the mistakes are: metrics that know how far apart two classes are in a hierarchy.

D (K, K) holds the distances, for example :attr:`ddn_etf.hierarchy.Hierarchy.distances`: D_{cy} is
what it costs to predict c where y is right. As for the frame, it may also be an array of NumPy or a
nested list. The metrics take scores, of which only the order matters: logits, probabilities, or the
negative risks of :func:`conditional_risk`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddn.errors import ShapeError
from ddn_etf.errors import FeatureError
from ddn_etf.hierarchy.frame import Distances
from ddn_etf.hierarchy.ultrametric import as_real_matrix
from ddn_etf.metrics.statistics import as_matrix
from ddn_etf.validation import check_count, check_floating, check_labels, check_values

__all__ = [
    "conditional_risk",
    "hierarchical_distance",
    "hierarchical_metrics",
    "hierarchical_precision",
    "mistake_severity",
]


@torch.no_grad()
def mistake_severity(scores: Tensor, labels: Tensor, distances: Distances) -> Tensor:
    """Mean of D_{ŷy} over the samples that are classified wrongly, ŷ = argmax of the scores.

    Bertinetto et al., "Making Better Mistakes" (2020). It says how bad mistakes are, not how many
    there are: compare it at equal accuracy.

    Args:
        scores: (N, K), finite.
        labels: y, (N,) integers in 0..K-1.
        distances: D, (K, K).

    Returns:
        () float64, NaN where no sample is classified wrongly: the mean over nothing.

    Raises:
        ShapeError, DtypeError, TypeError: wrong shapes or dtypes.
        FeatureError: NaN or infinity, or no samples.
        LabelError: a label out of range.
    """
    scores, labels, D = _checked(scores, labels, distances)
    predictions = scores.argmax(dim=1)
    wrong = predictions != labels
    return D[predictions, labels][wrong].mean()


@torch.no_grad()
def hierarchical_distance(
    scores: Tensor, labels: Tensor, distances: Distances, k: int = 1
) -> Tensor:
    """Mean of D_{cy} over the k classes c of the highest scores of each sample, hd@k.

    The average over the k classes and all samples, right ones included; for k = 1 it is the share
    of mistakes times :func:`mistake_severity` (Bertinetto et al., 2020; Liang and Davis, 2023).

    Args:
        scores: (N, K), finite.
        labels: y, (N,) integers in 0..K-1.
        distances: D, (K, K).
        k: in 1..K.

    Returns:
        () float64. It cannot be 0 for k > 1; what is possible depends on the hierarchy, see
        :func:`hierarchical_precision`.

    Raises:
        ValueError: k out of range.
        ShapeError, DtypeError, FeatureError, LabelError: see :func:`mistake_severity`.
    """
    scores, labels, D = _checked(scores, labels, distances)
    return _top(scores, labels, D, k).mean()


@torch.no_grad()
def hierarchical_precision(
    scores: Tensor, labels: Tensor, distances: Distances, k: int = 1
) -> Tensor:
    """Similarity of the top k to the label, relative to the best k there are, hp@k.

        hp@k = (1/N) Σ_i  Σ_{c in top k of i} (1 - D_{c,y_i}/D_max)
                        / max over sets C of k classes of Σ_{c in C} (1 - D_{c,y_i}/D_max)

    1 where the k predictions are the true class and its k - 1 nearest relatives. After Bertinetto
    et al. (2020), who take up the hierarchical precision of Deng, Berg and Fei-Fei (2011); in their
    code the two sums are taken over the samples before dividing, which is the same if all classes
    have the same best.

    Args:
        scores: (N, K), finite.
        labels: y, (N,) integers in 0..K-1.
        distances: D, (K, K), not all zero.
        k: in 1..K.

    Returns:
        () float64, in [0, 1].

    Raises:
        ValueError: k out of range, D all zero, or a class that is like none.
        ShapeError, DtypeError, FeatureError, LabelError: see :func:`mistake_severity`.
    """
    scores, labels, D = _checked(scores, labels, distances)
    largest = D.max()
    if largest <= 0:
        raise ValueError("distances are all zero: similarities relative to them are not defined")
    found = (1 - _top(scores, labels, D, k) / largest).sum(dim=1)
    best = (1 - D.sort(dim=0).values[:k] / largest).sum(dim=0)
    if (best <= 0).any():
        raise ValueError(
            f"class {int(best.argmin())} is at the largest distance from all classes, itself "
            "included: nothing is similar to it; distances from itself are 0"
        )
    return (found / best[labels]).mean()


@torch.no_grad()
def conditional_risk(logits: Tensor, distances: Distances) -> Tensor:
    """R_{ic} = Σ_j D_{cj} p_{ij},  p = softmax of the logits: the expected cost of predicting c.

    Predicting the class of least risk, argmin_c R_{ic}, re-ranks the classes of any classifier
    (conditional risk minimisation: Karthik et al., "No Cost Likelihood Manipulation at Test Time
    for Making Better Mistakes in Deep Networks", 2021). The negative risk is a score for the
    metrics of this module.

    Args:
        logits: (N, K), finite.
        distances: D, (K, K).

    Returns:
        (N, K) float64, at least 0.

    Raises:
        ShapeError, DtypeError, FeatureError: see :func:`mistake_severity`.
    """
    D = _square(distances)
    z = as_matrix("logits", logits, (None, len(D)))
    return z.softmax(dim=1) @ D.to(z.device).mT


@torch.no_grad()
def hierarchical_metrics(
    scores: Tensor, labels: Tensor, distances: Distances, ks: Sequence[int] = (1, 5, 20)
) -> dict[str, Tensor]:
    """All metrics of this module by name.

    Args:
        scores: (N, K), finite.
        labels: y, (N,) integers in 0..K-1.
        distances: D, (K, K).
        ks: the sizes k of the sets of predictions; those above K are left out.

    Returns:
        ``accuracy`` in per cent, ``mistake_severity``, and ``hd@k`` and ``hp@k`` for each k; ()
        float64 each.

    Raises:
        TypeError: ``ks`` is no sequence of integers.
        ValueError: k below 1.
        ShapeError, DtypeError, FeatureError, LabelError: see :func:`mistake_severity`.
    """
    if not isinstance(ks, Sequence):
        raise TypeError(f"ks must be a sequence of sizes such as (1, 5, 20), found {ks!r}")
    for k in ks:
        check_count("k", k, 1)
    checked, labels, D = _checked(scores, labels, distances)
    correct = checked.argmax(dim=1) == labels
    results = {
        "accuracy": 100 * correct.double().mean(),
        "mistake_severity": mistake_severity(checked, labels, D),
    }
    for k in ks:
        if k <= len(D):
            results[f"hd@{k}"] = hierarchical_distance(checked, labels, D, k)
            results[f"hp@{k}"] = hierarchical_precision(checked, labels, D, k)
    return results


def _top(scores: Tensor, labels: Tensor, D: Tensor, k: int) -> Tensor:
    """D_{cy} for the k highest scores of each sample, (N, k); of equal scores the first class."""
    check_count("k", k, 1)
    if k > len(D):
        raise ValueError(f"k is {k} and there are {len(D)} classes; k must be at most that")
    top = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return D[top, labels.unsqueeze(1)]


def _checked(scores: Tensor, labels: Tensor, distances: Distances) -> tuple[Tensor, Tensor, Tensor]:
    D = _square(distances)
    check_floating("scores", scores)
    if scores.ndim != 2 or scores.shape[1] != len(D):
        raise ShapeError(
            f"scores must have shape (N, {len(D)}), one column per class of the distances, found "
            f"{tuple(scores.shape)}"
        )
    labels = check_labels(labels, scores)
    values = as_matrix("scores", scores, (None, len(D)))
    check_values(values, labels, len(D))
    return values, labels, D.to(values.device)


def _square(distances: Distances) -> Tensor:
    if not isinstance(distances, Tensor) or not distances.is_floating_point():
        distances = as_real_matrix(distances)
    D = as_matrix("distances", distances, (None, None))
    if D.shape[0] != D.shape[1] or D.numel() == 0:
        raise ShapeError(f"distances must have shape (K, K), found {tuple(D.shape)}")
    if (D < 0).any():
        i, j = torch.nonzero(D < 0)[0].tolist()
        raise FeatureError(f"distances[{i}, {j}] is {D[i, j].item():g}; they must not be negative")
    return D
