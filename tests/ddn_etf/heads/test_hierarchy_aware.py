from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn_etf.errors import FrameSizeError
from ddn_etf.heads.hierarchy_aware import HAFrameHead, NearestHAFrameHead
from ddn_etf.heads.nearest_etf import NearestETFHead
from ddn_etf.hierarchy import (
    Hierarchy,
    HierarchyError,
    class_cosines,
    hierarchy_aware_frame,
    smallest_shift,
)
from ddn_etf.losses import CrossEntropy, HierarchyAware
from tests.ddn_etf.heads.cases import assert_same_state
from tests.ddn_etf.hierarchy.cases import BALANCED, UNEVEN, mappings
from tests.tolerances import TOLERANCES

TREE = Hierarchy.from_mapping(UNEVEN)
DISTANCES, S = TREE.distances, class_cosines(TREE.distances)
K, D, N = 7, 9, 42


def batch(seed=0, dtype=None):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(N) % K
    centres = torch.randn(K, D, generator=generator, dtype=torch.float64)
    noise = torch.randn(N, D, generator=generator, dtype=torch.float64)
    dtype = dtype or torch.get_default_dtype()
    return (centres[labels] + noise / 2).to(dtype), labels


def collapsed(V, tau=5.0):
    """Features of length τ along the rows of F Vᵀ."""
    F = hierarchy_aware_frame(DISTANCES, K - 1, dtype=torch.float64)
    labels = torch.arange(N) % K
    return tau * (F @ V.mT)[labels], labels, F


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(1)])
def test_fixed_head(device, dtype, tolerance, generator):
    seed = None if generator is None else 1
    head = HAFrameHead(DISTANCES, D, generator=generator, temperature=3.0).to(device)
    again = None if seed is None else torch.Generator().manual_seed(seed)
    frame = hierarchy_aware_frame(DISTANCES, D, generator=again)
    assert torch.equal(head.weight.cpu(), frame)
    assert head.weight.dtype == dtype
    assert_close(head.cosines.cpu(), S.to(dtype))
    assert_close(head.weight @ head.weight.mT, head.cosines, rtol=0, atol=tolerance.value)
    assert not list(head.parameters())
    features = batch()[0].to(device)
    h = 3 * features / features.norm(dim=1, keepdim=True)
    assert_close(head(features), h @ head.weight.mT)
    assert torch.count_nonzero(head.bias) == 0
    assert "gamma=2.0" in repr(head)


def test_fixed_head_at_collapse_ranks_classes_by_distance():
    W = hierarchy_aware_frame(DISTANCES, D, dtype=torch.float64)
    logits = HAFrameHead(DISTANCES, D).double()(7 * W)
    order = logits.argsort(dim=1, descending=True, stable=True)
    assert (DISTANCES.gather(1, order).diff(dim=1) >= 0).all()


@pytest.mark.parametrize("centered", [True, False])
def test_nearest_head_keeps_the_angles(device, dtype, tolerance, centered):
    head = NearestHAFrameHead(DISTANCES, D, centered=centered).to(device)
    for seed in range(3):
        features, labels = (part.to(device) for part in batch(seed))
        output = head.outputs(features, labels)
        gram = output.weight @ output.weight.mT
        assert_close(gram, head.cosines, rtol=0, atol=10 * tolerance.value)
        expected = -(output.weight @ output.h.mean(dim=0)) if centered else torch.zeros(K)
        assert_close(output.bias, expected.to(output.bias))
        assert_close(head.eval().outputs(features).logits, output.logits)
        head.train()
    assert f"centered={centered}" in repr(head)
    assert "gamma=2.0" in repr(head)


def test_nearest_head_needs_as_many_dimensions_as_the_rank():
    assert NearestHAFrameHead(DISTANCES, K - 1).proximal.shape == (K - 1, K - 1)
    with pytest.raises(FrameSizeError, match="span 6 dimensions and dim is 5"):
        NearestHAFrameHead(DISTANCES, 5)
    # With a small γ the shift is cut off at -1, and the frame has full rank.
    D4 = Hierarchy.from_mapping(BALANCED).distances
    assert smallest_shift(D4, 1.0) == -1
    assert NearestHAFrameHead(D4, 4, gamma=1.0).proximal.shape == (4, 4)
    with pytest.raises(FrameSizeError, match="use dim >= 4"):
        NearestHAFrameHead(D4, 3, gamma=1.0)
    with pytest.raises(FrameSizeError, match="use dim >= 4"):
        HAFrameHead(D4, 3, gamma=1.0)


@pytest.mark.parametrize("centered", [True, False])
def test_collapsed_features_are_a_fixed_point(centered):
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(D, K - 1, generator=generator, dtype=torch.float64)
    V = torch.linalg.qr(gaussian).Q
    features, labels, F = collapsed(V)
    head = NearestHAFrameHead(DISTANCES, D, centered=centered).double()
    output = head.outputs(features, labels)
    # δ pulls V* towards where it was by about δ; with each step less is left of that.
    for _ in range(5):
        output = head.outputs(features, labels)
    assert_close(output.weight, F @ V.mT, rtol=0, atol=1e-4)
    assert torch.equal(output.logits.argmax(dim=1), labels)


@given(mappings(), st.floats(0.1, 10), st.integers(0, 1000))
def test_every_class_is_right_at_collapse_with_either_bias(mapping, gamma, seed):
    distances = Hierarchy.from_mapping(mapping).distances
    W = hierarchy_aware_frame(distances, len(distances), gamma, dtype=torch.float64)
    shares = torch.rand(len(W), generator=torch.Generator().manual_seed(seed)).double() + 0.01
    mean = shares / shares.sum() @ W
    for logits in (W @ W.mT, (W - mean) @ W.mT):
        assert torch.equal(logits.argmax(dim=1), torch.arange(len(W)))


def test_centring_changes_the_ranking_of_the_others():
    W = hierarchy_aware_frame(DISTANCES, K, dtype=torch.float64)

    def is_ranked(logits):
        order = logits.argsort(dim=1, descending=True, stable=True)
        return (DISTANCES.gather(1, order).diff(dim=1) >= 0).all()

    assert is_ranked(W @ W.mT)
    assert not is_ranked((W - W.mean(dim=0)) @ W.mT)


def test_flat_hierarchy_is_the_nearest_simplex_etf(dtype, tolerance):
    flat = 1 - torch.eye(K)
    head, etf = NearestHAFrameHead(flat, D), NearestETFHead(D, K)
    # Their proximal points differ before the first step, which decides nothing here.
    for seed in range(4):
        features, labels = batch(seed)
        logits, expected = head(features, labels), etf(features, labels)
        assert_close(logits, expected, rtol=0, atol=5e-2)
    exact = TOLERANCES[dtype]
    assert_close(head.weight @ head.weight.mT, etf.weight @ etf.weight.mT, rtol=0, atol=exact.value)
    assert tolerance is exact


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("loss", [CrossEntropy(), HierarchyAware(0.4, S), HierarchyAware(1.0)])
def test_gradient_against_finite_differences(loss, centered):
    head = NearestHAFrameHead(DISTANCES, D, centered=centered).double()
    features, labels = (part[:7] for part in batch(dtype=torch.float64))
    head(features, labels)
    features.requires_grad_()

    def value(features):
        return loss(copy.deepcopy(head).outputs(features, labels), labels)

    assert torch.autograd.gradcheck(value, features)


@pytest.mark.parametrize("centered", [True, False])
def test_state_dict(centered):
    head = NearestHAFrameHead(DISTANCES, D, centered=centered)
    for seed in range(3):
        head(*batch(seed))
    other = NearestHAFrameHead(DISTANCES, D, centered=centered)
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(*batch(4)), other(*batch(4)))
    assert_same_state(head, other)


def test_training_brings_features_to_their_vectors():
    torch.manual_seed(0)
    labels = torch.arange(N) % K
    features = torch.randn(N, D, requires_grad=True)
    head = NearestHAFrameHead(DISTANCES, D, centered=False)
    loss, optimizer = HierarchyAware(0.4), torch.optim.SGD([features], lr=3.0, momentum=0.9)
    for _ in range(200):
        output = head.outputs(features, labels)
        optimizer.zero_grad()
        loss(output, labels).backward()
        optimizer.step()
    cosines = output.h @ output.weight.mT / output.h.norm(dim=1, keepdim=True)
    assert_close(cosines, head.cosines[labels], rtol=0, atol=0.1)


@pytest.mark.parametrize("head", [HAFrameHead, NearestHAFrameHead])
def test_bad_arguments(head):
    with pytest.raises(ValueError, match="gamma must be a positive number"):
        head(DISTANCES, D, gamma=-1.0)
    with pytest.raises(HierarchyError, match="is 0: the two classes"):
        head(torch.zeros(3, 3), D)
    with pytest.raises(TypeError, match="dim must be an integer"):
        head(DISTANCES, 9.0)
    with pytest.raises(ValueError, match="temperature"):
        head(DISTANCES, D, temperature=-1.0)
