from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf.errors import FeatureError, FrameSizeError
from ddn_etf.frames import orthogonal_frame, simplex_etf, softmax_code
from ddn_etf.heads import FixedETFHead, FixedFrameHead, NearestETFHead, NearestFrameHead
from tests.ddn_etf.heads.cases import D, K, assert_same_state

FRAMES = {
    "simplex": lambda: simplex_etf(K, D, dtype=torch.float64),
    "rotated simplex": lambda: simplex_etf(
        K, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ),
    "intrinsic simplex": lambda: simplex_etf(K, K - 1, dtype=torch.float64),
    "orthogonal": lambda: orthogonal_frame(K, D, dtype=torch.float64),
    "plane": lambda: softmax_code(K, 2, dtype=torch.float64),
    "any, of too many columns": lambda: torch.randn(K, 9, dtype=torch.float64),
    "any, of rank 2": lambda: torch.randn(K, 2).double() @ torch.randn(2, D).double(),
}


@pytest.mark.parametrize("name", FRAMES)
def test_weight_is_a_rotated_copy_in_every_step(batches, tolerance, name):
    frame = FRAMES[name]()
    head = NearestFrameHead(frame, D).to(batches[0][0])
    gram = (frame @ frame.mT).to(batches[0][0])
    close = {"rtol": 0, "atol": 100 * tolerance.value}
    assert_close(head.weight @ head.weight.mT, gram, **close)
    if frame.shape[1] <= D:
        before = torch.nn.functional.pad(frame, (0, D - frame.shape[1])).to(head.weight)
        assert_close(head.weight, before, **close)
    for features, labels in batches:
        leaf = features.clone().requires_grad_()
        cross_entropy(head(leaf, labels), labels).backward()
        assert_close(head.weight @ head.weight.mT, gram, **close)
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", FRAMES)
def test_no_other_rotation_is_nearer(batches, name):
    """Against rotations about the one found, in float64."""
    frame = FRAMES[name]()
    head = NearestFrameHead(frame, D, proximal_weight=1e-9).double()
    for features, labels in batches:
        head(features.double(), labels)
    Y = head.class_means.eval()()
    least = (Y - head.weight.mT / frame.norm()).norm()
    for _ in range(20):
        skew = 0.1 * torch.randn(D, D).to(Y)
        rotation = torch.linalg.matrix_exp(skew - skew.mT)
        assert (Y - rotation @ head.weight.mT / frame.norm()).norm() >= least - 1e-8


def test_nearest_etf_is_the_case_of_the_simplex_etf(batches, tolerance):
    general = NearestFrameHead(simplex_etf(K, D), D).to(batches[0][0])
    special = NearestETFHead(D, K).to(batches[0][0])
    for features, labels in batches:
        assert_close(
            general(features, labels), special(features, labels), rtol=0, atol=tolerance.gradient
        )
    assert_close(general.weight, special.weight, rtol=0, atol=tolerance.gradient)


def test_features_on_the_frame_are_found(batches):
    """Class means that are a rotated copy: the classifier turns there in one step."""
    device = batches[0][0].device
    frame = softmax_code(7, 3, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(D, D)).Q.double()[:, :3]
    labels = torch.arange(14, device=device) % 7
    head = NearestFrameHead(frame, D).double().to(device)
    centred = frame - frame.mean(dim=0)
    head((centred @ rotation.mT).to(head.weight)[labels], labels)
    expected = (frame @ rotation.mT).to(head.weight)
    assert_close(head.weight, expected, rtol=0, atol=0.05)


def test_fixed_frames(batches):
    features, labels = batches[0]
    code = softmax_code(9, 3)
    head = FixedFrameHead(code)
    assert (head.dim, head.num_classes) == (3, 9)
    assert torch.equal(head.weight, code)
    code.zero_()
    assert head.weight.any()
    fixed, same = FixedETFHead(D, K).to(features), FixedFrameHead(simplex_etf(K, D)).to(features)
    assert torch.equal(fixed(features, labels), same(features, labels))
    assert_same_state(fixed, same)
    assert not list(fixed.parameters())
    square = FixedETFHead(K, K)
    assert_close(square.weight, simplex_etf(K, K))


@pytest.mark.parametrize("make", [FixedFrameHead, lambda frame: NearestFrameHead(frame, D)])
def test_what_is_no_frame_is_refused(make):
    for frame, error, message in (
        (torch.ones(K), ShapeError, r"\(K, d\)"),
        (torch.ones(0, 3), ShapeError, r"\(K, d\)"),
        (torch.ones(K, 3).long(), DtypeError, "floating-point"),
        ([[1.0, 2.0]], DtypeError, "must be a tensor"),
        (torch.ones(K, 3).log() / 0, FeatureError, "NaN or infinity, first in row 0"),
        (torch.zeros(K, 3), FrameSizeError, "every vector"),
    ):
        with pytest.raises(error, match=message):
            make(frame)


def test_sizes_of_nearest_frames():
    with pytest.raises(FrameSizeError, match="span 4 dimensions and dim is 3"):
        NearestFrameHead(orthogonal_frame(4, 4), 3)
    with pytest.raises(FrameSizeError, match="at least 2 classes"):
        NearestFrameHead(torch.ones(1, 3), 3)
    assert NearestFrameHead(simplex_etf(4, 9), 3).weight.shape == (4, 3)


def test_it_can_be_made_without_memory_and_filled_later():
    whole = NearestFrameHead(orthogonal_frame(4, 6), 6)
    with torch.device("meta"):
        empty = NearestFrameHead(orthogonal_frame(4, 6, device="cpu"), 6)
    assert empty.weight.is_meta
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(whole.state_dict())
    features, labels = torch.randn(20, 6), torch.arange(20) % 4
    assert torch.equal(filled(features, labels), whole(features, labels))
