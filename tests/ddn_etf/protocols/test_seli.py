"""The SELI geometry against the singular value decomposition it is defined by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddn.errors import ShapeError
from ddn_etf.errors import FrameSizeError, LabelError
from ddn_etf.frames import centering_matrix, simplex_etf
from ddn_etf.protocols import seli_distance, seli_mean_gram, seli_weight_gram
from tests.tolerances import TOLERANCES

TOLERANCE = TOLERANCES[torch.float64].value


@given(st.lists(st.integers(1, 12), min_size=2, max_size=7))
def test_the_definition(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    Z = np.eye(len(counts))[:, labels] - 1 / len(counts)
    V, sigma, Ut = np.linalg.svd(Z, full_matrices=False)
    sigma[-1] = 0  # the vector of ones; rounding otherwise
    weights, features = (V * sigma) @ V.T, (Ut.T * sigma) @ Ut
    firsts = np.cumsum([0, *counts[:-1]])
    means = features[np.ix_(firsts, firsts)]  # all samples of a class have the same features
    for found, expected in (
        (seli_weight_gram(counts), weights),
        (seli_mean_gram(counts), means),
    ):
        np.testing.assert_allclose(
            found, expected / np.linalg.norm(expected), rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("n", [1, 50])
def test_equal_classes_have_a_simplex_etf(n):
    simplex = centering_matrix(5, dtype=torch.float64)
    for gram in (seli_weight_gram([n] * 5), seli_mean_gram([n] * 5)):
        torch.testing.assert_close(gram, simplex / simplex.norm(), rtol=0, atol=TOLERANCE)
    assert seli_distance(simplex_etf(5, 9, dtype=torch.float64), simplex) < TOLERANCE


def test_the_rare_classes_draw_together():
    # Step imbalance: with ratio R, vectors of two minority classes have a larger cosine.
    gram = seli_weight_gram([100] * 3 + [1] * 3)
    lengths = gram.diagonal().sqrt()
    cosines = gram / torch.outer(lengths, lengths)
    assert cosines[4, 5] > cosines[0, 1] + 0.2
    assert lengths[4] < lengths[0]


def test_distances():
    gram = seli_weight_gram([9, 4, 1])
    values, vectors = torch.linalg.eigh(gram)
    weight = vectors * values.clamp(min=0).sqrt()
    assert seli_distance(7 * weight, 3 * gram) < TOLERANCE
    assert 0.1 < seli_distance(weight, centering_matrix(3, dtype=torch.float64)) <= 2
    assert seli_distance(torch.zeros(3, 2), gram).isnan()


def test_bad_input():
    with pytest.raises(LabelError, match="class 1 has no samples"):
        seli_weight_gram([3, 0])
    with pytest.raises(FrameSizeError, match="num_classes is 1"):
        seli_mean_gram([3])
    with pytest.raises(ShapeError, match=r"gram must have shape \(3, 3\)"):
        seli_distance(torch.zeros(3, 2), torch.eye(2))


@pytest.mark.parametrize("scale", [1e-300, 1e170, 1e300])
def test_the_size_does_not_matter(scale):
    X = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gram = seli_weight_gram([9, 4, 1])
    expected = seli_distance(X, gram)
    torch.testing.assert_close(seli_distance(scale * X, gram), expected)
    torch.testing.assert_close(seli_distance(X, scale * gram), expected)


def test_counts():
    for counts in ([3, 1.5], [3, float("nan")]):
        with pytest.raises(LabelError, match=r"class_counts\[1\] is"):
            seli_mean_gram(counts)
