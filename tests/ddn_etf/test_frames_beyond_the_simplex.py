"""Orthogonal frames, rotated copies, softmax codes and the SELI geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import FeatureError, FrameSizeError, LabelError
from ddn_etf.frames import (
    factorize_frame,
    one_vs_rest_distances,
    orthogonal_frame,
    rotated_copy,
    seli_geometry,
    simplex_etf,
    softmax_code,
)
from ddn_etf.frames.codes import maximize_one_vs_rest_distance
from ddn_etf.heads import NearestFrameHead

exact = {"rtol": 0, "atol": 1e-10}


@given(st.integers(1, 12), st.integers(0, 8), st.none() | st.integers(0, 99))
def test_orthogonal_frames(dtype, device, tolerance, K, extra, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    W = orthogonal_frame(K, K + extra, generator=generator, dtype=dtype, device=device)
    assert_close(W @ W.mT, torch.eye(K, dtype=dtype, device=device), rtol=0, atol=tolerance.value)


def test_sizes_of_orthogonal_frames():
    with pytest.raises(FrameSizeError, match="at most 3 vectors are mutually orthogonal"):
        orthogonal_frame(4, 3)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        orthogonal_frame(0, 3)
    assert torch.equal(orthogonal_frame(2, 3), torch.eye(2, 3))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 5), st.none() | st.integers(0, 99))
def test_factors_and_copies_keep_the_gram_matrix(K, d, rank, seed):
    torch.manual_seed(K + 10 * d + 100 * rank)
    rank = min(rank, K, d)
    frame = torch.randn(K, rank).double() @ torch.randn(rank, d).double()
    factor, basis = factorize_frame(frame)
    assert factor.shape == (K, rank)
    assert_close(factor @ basis.mT, frame, **exact)
    assert_close(basis.mT @ basis, torch.eye(rank).double(), **exact)
    assert_close(factor @ factor.mT, frame @ frame.mT, **exact)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    copy = rotated_copy(frame, d + 2, generator=generator, dtype=torch.float64)
    assert copy.shape == (K, d + 2)
    assert_close(copy @ copy.mT, frame @ frame.mT, **exact)
    # In as few dimensions as the frame fills.
    least = rotated_copy(frame, rank, dtype=torch.float64)
    assert_close(least @ least.mT, frame @ frame.mT, **exact)
    if rank > 1:
        with pytest.raises(FrameSizeError, match=f"span {rank} dimensions"):
            rotated_copy(frame, rank - 1)


def test_factor_is_that_of_cholesky():
    frame = simplex_etf(4, 4, dtype=torch.float64)
    factor, _ = factorize_frame(frame)
    expected = np.linalg.cholesky((frame @ frame.mT)[:3, :3].numpy())
    assert_close(factor[:3], torch.tensor(expected), **exact)
    # Equal rows first: the triangle is in the others.
    rows = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 0.0]]).double()
    factor, basis = factorize_frame(rows)
    assert_close(factor @ basis.mT, rows)
    assert_close(factor[:2, 1], torch.zeros(2).double(), **exact)


def naive_distance(frame, k):
    """The quadratic program over the convex hull by a general solver."""
    others = np.delete(frame, k, 0)
    start = np.full(len(others), 1 / len(others))
    found = scipy.optimize.minimize(
        lambda t: ((t @ others - frame[k]) ** 2).sum(),
        start,
        jac=lambda t: 2 * others @ (t @ others - frame[k]),
        bounds=[(0, 1)] * len(others),
        constraints={"type": "eq", "fun": lambda t: t.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 300},
    )
    return math.sqrt(found.fun)


@settings(max_examples=20)
@given(st.integers(2, 7), st.integers(1, 5), st.integers(0, 10_000))
def test_distances_against_a_general_solver(K, d, seed):
    frame = torch.randn(K, d, generator=torch.Generator().manual_seed(seed)).double()
    found = one_vs_rest_distances(frame)
    for k in range(K):
        assert found[k].item() == pytest.approx(naive_distance(frame.numpy(), k), abs=1e-5)


def test_known_distances():
    for K in range(2, 9):
        ratio = torch.full((K,), K / (K - 1), dtype=torch.float64)
        assert_close(one_vs_rest_distances(simplex_etf(K, K, dtype=torch.float64)), ratio, **exact)
    cross = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    assert_close(one_vs_rest_distances(cross), torch.ones(6).double(), **exact)
    assert_close(one_vs_rest_distances(1e8 * cross) / 1e8, torch.ones(6).double(), **exact)
    # A vector inside the hull of the others has none.
    inside = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.5, 0.0]]).double()
    assert one_vs_rest_distances(inside)[2] == 0


@pytest.mark.parametrize(
    ("K", "d", "known"),
    [
        (5, 2, 1 - math.cos(math.tau / 5)),
        (8, 2, 1 - math.cos(math.tau / 8)),
        (4, 3, 4 / 3),
        (6, 4, 1.0),
        (8, 4, 1.0),
        (12, 3, 1 - 1 / math.sqrt(5)),  # the icosahedron
    ],
)
def test_the_numerical_optimum_is_the_known_one(K, d, known):
    code = maximize_one_vs_rest_distance(K, d, starts=2)
    assert_close(code.norm(dim=1), torch.ones(K).double(), **exact)
    assert one_vs_rest_distances(code).min().item() == pytest.approx(known, abs=1e-5)


def test_softmax_codes():
    for K in range(3, 10):
        polygon = softmax_code(K, 2, dtype=torch.float64)
        known = [1 - math.cos(math.tau / K) if K > 3 else 1.5] * K
        assert_close(
            one_vs_rest_distances(polygon), torch.tensor(known, dtype=torch.float64), **exact
        )
    assert torch.equal(softmax_code(5, 4), simplex_etf(5, 4))
    code = softmax_code(9, 3, starts=1)
    assert torch.equal(code, softmax_code(9, 3, starts=1))
    other = softmax_code(9, 3, starts=1, generator=torch.Generator().manual_seed(3))
    assert not torch.equal(code, other)
    assert (code.dtype, code.shape) == (torch.float32, (9, 3))
    turned = softmax_code(5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    flat = softmax_code(5, 2, dtype=torch.float64)
    assert_close(turned @ turned.mT, flat @ flat.mT)
    with pytest.raises(FrameSizeError, match="fit on a line"):
        softmax_code(3, 1)
    with pytest.raises(ValueError, match="starts"):
        softmax_code(9, 3, starts=0)


def interpolation(counts):
    """Z of Thrampoulidis et al. with one column per sample, and its decomposition."""
    labels = np.repeat(np.arange(len(counts)), counts)
    Z = np.eye(len(counts))[:, labels] - 1 / len(counts)
    V, values, Uh = np.linalg.svd(Z, full_matrices=False)
    rank = len(counts) - 1
    return labels, Z, V[:, :rank], values[:rank], Uh[:rank]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=6))
def test_seli_geometry_against_the_whole_matrix(counts):
    labels, Z, V, values, Uh = interpolation(counts)
    found = seli_geometry(counts, dtype=torch.float64)
    first = np.searchsorted(labels, np.arange(len(counts)))
    assert_close(found.singular_values, torch.tensor(values), **exact)
    assert_close(found.weight_gram, torch.tensor(V * values @ V.T), **exact)
    gram = (Uh.T * values @ Uh)[np.ix_(first, first)]
    assert_close(found.mean_gram, torch.tensor(gram), **exact)
    assert_close(found.weight @ found.means.mT, torch.tensor(Z[:, first]), **exact)


def test_seli_geometry_of_balanced_data_is_a_simplex_etf():
    found = seli_geometry(torch.tensor([7, 7, 7, 7]), dtype=torch.float64)
    simplex = simplex_etf(4, 4, dtype=torch.float64)
    for gram in (found.weight_gram, found.mean_gram):
        assert_close(gram / gram.diagonal()[0], simplex @ simplex.mT, **exact)
    longest = seli_geometry([50, 1, 1]).weight.norm(dim=1).argmax()
    assert longest == 0


def test_counts_that_make_no_sense():
    for counts, message in (
        ([3, 0, 2], r"class_counts\[1\] is 0"),
        ([3.5, 2], r"class_counts\[0\] is 3.5"),
        ([math.inf, 2.0], r"class_counts\[0\] is inf"),
        ([[1, 2]], "one number per class"),
        ([math.nan, 2.0], r"class_counts\[0\] is nan"),
        (np.array([2.0, -1.0]), r"class_counts\[1\] is -1"),
        ([], "class_counts is empty"),
    ):
        with pytest.raises(LabelError, match=message):
            seli_geometry(counts)
    with pytest.raises(FrameSizeError, match="at least 2"):
        seli_geometry([5])
    for counts in ("12", 5, [True, 3], ["1", "2"]):
        with pytest.raises(TypeError, match="class_counts"):
            seli_geometry(counts)


@pytest.mark.parametrize("use", [factorize_frame, one_vs_rest_distances])
def test_what_is_no_frame_is_refused(use):
    with pytest.raises(ShapeError, match=r"\(K, d\)"):
        use(torch.ones(3))
    with pytest.raises(DtypeError, match="floating-point"):
        use(torch.ones(3, 3).long())
    with pytest.raises(FeatureError, match="row 0"):
        use(torch.full((3, 3), math.nan))
    with pytest.raises(FrameSizeError, match="zero"):
        use(torch.zeros(3, 3))
    with pytest.raises(DtypeError, match=r"on the meta device.*device=.cpu."):
        use(torch.ones(3, 3, device="meta"))


def test_the_default_device_has_no_say_in_what_is_computed_on_the_host():
    F = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full_rank, distances = factorize_frame(F.mT[:, :3]), one_vs_rest_distances(F)
    code, cpu = maximize_one_vs_rest_distance(5, 3, starts=1), {"device": "cpu"}
    with torch.device("meta"):
        found = factorize_frame(F.mT[:, :3])
        assert torch.equal(found.factor, full_rank.factor)
        assert torch.equal(found.basis, full_rank.basis)
        assert torch.equal(one_vs_rest_distances(F), distances)
        assert torch.equal(maximize_one_vs_rest_distance(5, 3, starts=1), code)
        polygon = softmax_code(5, 2, generator=torch.Generator().manual_seed(3), **cpu)
        NearestFrameHead(F[:3, :3], 8)
        assert seli_geometry([1, 2], **cpu).weight.isfinite().all()
    assert torch.equal(polygon, softmax_code(5, 2, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("generator", [0, "seed", torch.manual_seed])
def test_seeds_in_place_of_generators(generator):
    for make in (
        lambda: simplex_etf(3, 4, generator=generator),
        lambda: orthogonal_frame(3, 4, generator=generator),
        lambda: rotated_copy(torch.eye(3), 4, generator=generator),
        lambda: softmax_code(5, 2, generator=generator),
        lambda: softmax_code(5, 3, generator=generator),
    ):
        with pytest.raises(TypeError, match=r"must be a torch\.Generator.*manual_seed\(seed\)"):
            make()


def test_dtypes():
    for dtype in ("float32", float, 32):
        with pytest.raises(DtypeError, match="dtype must be a dtype of torch"):
            simplex_etf(3, 4, dtype=dtype)
    for scale in (1e300, 1e-300):
        frame = scale * torch.eye(3, dtype=torch.float64)
        with pytest.raises(DtypeError, match=r"out of the range of torch\.float32"):
            rotated_copy(frame, 4)
        assert rotated_copy(frame, 4, dtype=torch.float64).any()
