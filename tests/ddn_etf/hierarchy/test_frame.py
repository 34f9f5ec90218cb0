from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch.testing import assert_close

from ddn.errors import DtypeError
from ddn_etf.errors import FrameSizeError
from ddn_etf.frames import simplex_etf
from ddn_etf.hierarchy import (
    Hierarchy,
    HierarchyError,
    class_cosines,
    hierarchy_aware_frame,
    smallest_shift,
)
from tests.ddn_etf.hierarchy.cases import (
    REFERENCE,
    UNEVEN,
    inverse_sum,
    mappings,
    random_tree,
)
from tests.tolerances import TOLERANCES

TOLERANCE = TOLERANCES[torch.float64]
GAMMAS = st.floats(0.05, 20.0)


def gram(W):
    return W.double() @ W.double().mT


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(name):
    case = REFERENCE[name]
    D, gamma = torch.tensor(case["hdist"]), case["gamma"]
    assert smallest_shift(D, gamma) == pytest.approx(case["s_min_exact_clipped"], rel=1e-12)
    S = class_cosines(D, gamma)
    expected = torch.tensor(case["eigvals_exact_s"], dtype=torch.float64)
    assert_close(torch.linalg.eigvalsh(S), expected, rtol=1e-12, atol=1e-14)
    W = hierarchy_aware_frame(D, case["num_features"], gamma, dtype=torch.float64)
    assert_close(gram(W), S, rtol=0, atol=1e-14)


def test_facts_of_the_balanced_tree():
    D = torch.tensor(REFERENCE["balanced4_gamma2"]["hdist"])
    assert smallest_shift(D, 2.0) == pytest.approx(-0.6938745317, abs=5e-11)
    S = class_cosines(D, 2.0)
    assert S[0, 1].item() == pytest.approx(-0.0707329156, abs=5e-11)
    assert S[0, 2].item() == pytest.approx(-0.4646335422, abs=5e-11)
    eigenvalues = [0, 1.0707329156, 1.0707329156, 1.8585341688]
    assert torch.linalg.eigvalsh(S).tolist() == pytest.approx(eigenvalues, abs=1e-10)


@pytest.mark.parametrize("name", REFERENCE)
def test_published_grid_search_stops_short_of_the_exact_shift(name):
    case = REFERENCE[name]
    grid, exact = case["s_min_official_grid100"], smallest_shift(case["hdist"], case["gamma"])
    step = (1 - 1 / 3) / 99
    assert exact <= grid < exact + step
    # With the shift of the grid the cosines are those of the published matrix and its classifier.
    E = np.exp(-case["gamma"] * np.array(case["hdist"]) / 2)
    published = (1 - grid) * E + grid
    assert np.allclose(published, case["S"], rtol=0, atol=1e-14)
    W = np.array(case["W_official"])
    assert np.allclose(W @ W.T, case["S"], rtol=0, atol=1e-14)
    if grid == exact:
        # Up to a rotation it is ours.
        ours = hierarchy_aware_frame(case["hdist"], 4, case["gamma"], dtype=torch.float64)
        assert_close(gram(ours), torch.tensor(W @ W.T), rtol=0, atol=1e-14)


@pytest.mark.parametrize("K", [2, 3, 10, 200])
@pytest.mark.parametrize("gamma", [0.01, 2.0, 50.0])
def test_a_flat_hierarchy_is_a_simplex_etf(K, gamma):
    D = 3 * (1 - torch.eye(K))
    S = class_cosines(D, gamma)
    if gamma > 0.01 or K > 2:
        expected = gram(simplex_etf(K, K, dtype=torch.float64))
    # The cosine of two opposite vectors is -1, the least there is.
    flat = max(-1 / (K - 1), 2 * np.exp(-gamma) - 1)
    assert_close(S[~torch.eye(K, dtype=torch.bool)].max().item(), flat, rtol=0, atol=1e-12)
    if flat == -1 / (K - 1):
        expected = gram(simplex_etf(K, K, dtype=torch.float64))
        assert_close(S, expected, rtol=0, atol=1e-12)
        W = hierarchy_aware_frame(D, K - 1, gamma, dtype=torch.float64)
        assert_close(gram(W), expected, rtol=0, atol=1e-12)


@given(mappings(), GAMMAS)
def test_shift_against_the_electrical_network(mapping, gamma):
    hierarchy = Hierarchy.from_mapping(mapping)
    q = inverse_sum(hierarchy, gamma)
    expected = max(-1.0, -1 / (q - 1))
    assert smallest_shift(hierarchy.distances, gamma) == pytest.approx(expected, rel=1e-12)


@given(mappings(), GAMMAS)
def test_the_shift_is_the_smallest(mapping, gamma):
    D = Hierarchy.from_mapping(mapping).distances
    E = torch.exp(-gamma * D / D.max())

    def least(s):
        return torch.linalg.eigvalsh((1 - s) * E + s)[0].item()

    s = smallest_shift(D, gamma)
    assert least(s) >= -1e-13 * len(D)
    if s > -1:
        assert s == pytest.approx(brentq(least, -1 - 1e-9, 0, xtol=1e-13), rel=1e-8)
        assert least(s - 1e-6) < 0
        # The vectors add up to zero with the weights E⁻¹1, which are all positive.
        W = hierarchy_aware_frame(D, len(D), gamma, dtype=torch.float64)
        weights = torch.cholesky_solve(torch.ones(len(D), 1).double(), torch.linalg.cholesky(E))
        assert (weights > 0).all()
        assert_close((weights * W).sum(dim=0), torch.zeros(len(D)).double(), rtol=0, atol=1e-9)


@given(mappings(), GAMMAS, st.integers(0, 3))
def test_frame_has_the_cosines(mapping, gamma, extra):
    D = Hierarchy.from_mapping(mapping).distances
    S = class_cosines(D, gamma)
    rank = len(D) - (smallest_shift(D, gamma) > -1)
    generator = torch.Generator().manual_seed(0)
    for rotation in (None, generator):
        W = hierarchy_aware_frame(D, rank + extra, gamma, generator=rotation, dtype=torch.float64)
        assert W.shape == (len(D), rank + extra)
        assert_close(gram(W), S, rtol=0, atol=1e-12)
    # The nearer, the smaller the angle.
    order = D.flatten().argsort(stable=True)
    assert (S.flatten()[order].diff() <= 1e-12).all()
    with pytest.raises(FrameSizeError, match=f"span {rank} dimensions; use dim >= {rank}"):
        hierarchy_aware_frame(D, rank - 1, gamma)


def test_unit_and_order_of_the_distances_do_not_matter():
    D = Hierarchy.from_mapping(UNEVEN).distances
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    S = class_cosines(D)
    assert_close(class_cosines(1e-150 * D), S, rtol=0, atol=1e-14)
    assert_close(class_cosines(D[order][:, order].tolist()), S[order][:, order])
    assert_close(class_cosines(D.int().numpy()), S)


def test_canonical_frame_is_the_cholesky_factor():
    D = torch.tensor(REFERENCE["balanced4_gamma1_clipped"]["hdist"])
    W = hierarchy_aware_frame(D, 6, 1.0, dtype=torch.float64)
    L = torch.linalg.cholesky(class_cosines(D, 1.0))
    assert_close(W, torch.nn.functional.pad(L, (0, 2)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("gamma", [0.1, 10.0])
def test_a_thousand_classes(gamma):
    hierarchy = Hierarchy.from_parents(random_tree(1000))
    D = hierarchy.distances
    expected = max(-1.0, -1 / (inverse_sum(hierarchy, gamma) - 1))
    assert smallest_shift(D, gamma) == pytest.approx(expected, rel=1e-11)
    W = hierarchy_aware_frame(D, 1000, gamma, dtype=torch.float64)
    assert_close(gram(W), class_cosines(D, gamma), rtol=0, atol=1e-11)


@pytest.mark.parametrize("ratio", [1e-3, 1e-6, 1e-9])
def test_ill_conditioned_cosines(ratio):
    # Pairs of classes that are closer to each other, by this ratio, than to all others.
    text = ",".join(f"(a{k}:{ratio},b{k}:{ratio}):{1 - ratio}" for k in range(20))
    hierarchy = Hierarchy.from_newick(f"({text});")
    D = hierarchy.distances
    expected = max(-1.0, -1 / (inverse_sum(hierarchy, 2.0) - 1))
    assert smallest_shift(D) == pytest.approx(expected, rel=1e-12)
    W = hierarchy_aware_frame(D, 40, dtype=torch.float64)
    assert_close(gram(W), class_cosines(D), rtol=0, atol=1e-12)


def test_classes_that_rounding_makes_equal():
    D = Hierarchy.from_newick("((a:1e-17,b:1e-17):1,c:1);").distances
    with pytest.raises(HierarchyError, match="classes 0 and 1 cannot be told apart"):
        hierarchy_aware_frame(D, 3)


def test_duplicates():
    with pytest.raises(HierarchyError, match=r"distances\[1, 2\] = 0 is 0.*merge them"):
        hierarchy_aware_frame([[0, 1, 1], [1, 0, 0], [1, 0, 0]], 3)


def test_distances_of_no_tree():
    # The shortest ways on a star: the ends are 2 apart, and all 1 from the centre, seen as a class.
    D = torch.full((9, 9), 2.0).fill_diagonal_(0)
    D[0], D[:, 0] = 0.01, 0.01
    D[0, 0] = 0
    with pytest.raises(HierarchyError, match="not positive definite"):
        hierarchy_aware_frame(D, 9)


@pytest.mark.parametrize("gamma", [0.0, -1.0, torch.inf, torch.nan])
def test_gamma(gamma):
    with pytest.raises(ValueError, match="gamma must be a positive number"):
        class_cosines([[0, 1], [1, 0]], gamma)


@pytest.mark.parametrize("gamma", [True, "2", None, torch.tensor(2.0)])
def test_gamma_that_is_no_number(gamma):
    with pytest.raises(TypeError, match="gamma must be a number"):
        smallest_shift([[0, 1], [1, 0]], gamma)


def test_a_matrix_in_single_precision():
    exact = Hierarchy.from_mapping(UNEVEN).distances
    S = class_cosines(exact)
    unit = torch.finfo(torch.float32).eps
    rounded = (exact * (1 + unit * torch.rand(exact.shape).triu())).float()
    assert not torch.equal(rounded, rounded.mT)
    for D in (rounded, rounded.numpy()):
        torch.testing.assert_close(class_cosines(D), S, rtol=0, atol=1e-6)


def test_the_default_device_has_no_say():
    expected = hierarchy_aware_frame([[0, 1], [1, 0]], 3, device="cpu")
    with torch.device("meta"):
        assert torch.equal(hierarchy_aware_frame([[0, 1], [1, 0]], 3, device="cpu"), expected)
        assert Hierarchy.from_mapping(UNEVEN).distances.device.type == "cpu"


def test_arguments():
    with pytest.raises(TypeError, match="dim must be an integer"):
        hierarchy_aware_frame([[0, 1], [1, 0]], 2.0)
    with pytest.raises(DtypeError, match="floating-point"):
        hierarchy_aware_frame([[0, 1], [1, 0]], 2, dtype=torch.int32)


def test_dtype_device_and_generator(device):
    D = Hierarchy.from_mapping(UNEVEN).distances
    exact = hierarchy_aware_frame(D, 8, dtype=torch.float64)
    W = hierarchy_aware_frame(D.to(device), 8, dtype=torch.float32, device=device)
    assert W.device.type == torch.device(device).type
    assert torch.equal(W.cpu(), exact.float())
    frames = [
        hierarchy_aware_frame(D, 8, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])
