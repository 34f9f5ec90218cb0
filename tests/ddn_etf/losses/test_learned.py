"""Losses for a given frame say so where the classifier is learned."""

from __future__ import annotations

import warnings

import pytest
import torch

from ddn_etf.frames import simplex_etf
from ddn_etf.heads import FixedETFHead, FixedFrameHead, LinearHead, NearestETFHead
from ddn_etf.losses import (
    CrossEntropy,
    DotRegression,
    HierarchyAware,
    LearnedClassifierWarning,
    MeanSquaredError,
    WeightedSum,
)
from ddn_etf.losses.learned import is_learned
from tests.ddn_etf.losses.cases import D, K, N

LABELS = torch.tensor([3, 0, 2, 2, 3, 0, 3])
FEATURES = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
NEEDS_A_FRAME = [DotRegression(), DotRegression(5.0), HierarchyAware(), HierarchyAware(2.0)]


def loss_of(head, loss):
    return loss(head.outputs(FEATURES.requires_grad_(), LABELS), LABELS)


@pytest.mark.parametrize("loss", NEEDS_A_FRAME)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_learned_classifier_is_warned_of(loss, dtype):
    head = LinearHead(D, K).to(dtype)
    with pytest.warns(LearnedClassifierWarning, match="such as FixedETFHead or NearestETFHead"):
        loss_of(head, loss)
    with pytest.warns(LearnedClassifierWarning):
        loss_of(head, WeightedSum((CrossEntropy(), loss), (1.0, 1.0)))


@pytest.mark.parametrize("loss", NEEDS_A_FRAME)
def test_frames_are_not(loss):
    # Of the nearest frame the weight has a gradient as well; warnings are errors here.
    for head in (
        FixedETFHead(D, K),
        FixedFrameHead(simplex_etf(K, D)),
        NearestETFHead(D, K),
        NearestETFHead(D, K, gradient_through_frame=False),
        LinearHead(D, K).requires_grad_(False),
    ):
        loss_of(head, loss).backward()


def test_where_nothing_is_trained_nothing_is_said():
    head = LinearHead(D, K)
    with torch.no_grad():
        loss_of(head, DotRegression())
    for loss in (
        HierarchyAware(0.0),
        HierarchyAware(0.4, torch.eye(K)),
        CrossEntropy(),
        MeanSquaredError(),
    ):
        loss_of(head, loss)


def test_once():
    head = LinearHead(D, K)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            loss_of(head, DotRegression())
    assert len(caught) == 1


def test_the_loss_vanishes_where_all_class_vectors_are_one():
    head = LinearHead(D, K, bias=False)
    with torch.no_grad():
        head.weight.fill_(1.0)
        value = DotRegression()(head.outputs(torch.ones(N, D)), LABELS)
    assert value < 1e-12


def test_a_parameter_behind_a_conversion():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    assert is_learned(parameter)
    assert is_learned(parameter.double())
    assert is_learned(parameter.half().float())
    assert not is_learned(parameter.detach())
    assert not is_learned(2 * parameter)
