from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from tests.ddn_etf.heads.cases import D, K, assert_same_state


@pytest.fixture
def single(device):
    """Mixed precision is about float32 and narrower, whatever the tests compute in."""
    torch.set_default_dtype(torch.float32)
    return torch.float32


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_autocast(single, head, batches, device, narrow):
    """Frame and logits are found in float32; features may be narrow."""
    head = head.float()
    exact = copy.deepcopy(head)
    backbone = nn.Linear(D, D, device=device)
    for features, labels in batches:
        with torch.autocast(device.type, dtype=narrow):
            h = backbone(features.float())
            assert h.dtype == narrow
            logits = head(h, labels)
            loss = cross_entropy(logits, labels)
        loss.backward()
        assert_close(logits, exact(h.detach().float(), labels))
        assert {b.dtype for b in head.buffers() if b.is_floating_point()} <= {torch.float32}
        assert_same_state(head, exact)
        assert backbone.weight.grad.isfinite().all()


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_gradient_under_autocast_is_close_to_float32(single, nearest, batches, device, narrow):
    features, labels = batches[0]
    features = features.float()
    gradients = []
    for enabled in (True, False):
        head = copy.deepcopy(nearest).float()
        leaf = features.clone().requires_grad_()
        with torch.autocast(device.type, dtype=narrow, enabled=enabled):
            logits = head(leaf, labels)
        cross_entropy(logits.float(), labels).backward()
        gradients.append(leaf.grad)
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert error < 20 * torch.finfo(narrow).eps


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_half_precision_features_and_heads(single, head, batches, narrow):
    features, labels = batches[0]
    wide = copy.deepcopy(head).float()
    expected = wide(features.to(narrow).float(), labels)
    logits = copy.deepcopy(head).float()(features.to(narrow), labels)
    assert_close(logits, expected)
    half = head.to(narrow)
    leaf = features.to(narrow).requires_grad_()
    logits = half(leaf, labels)
    assert logits.dtype == narrow
    assert_close(logits.float(), expected, rtol=0, atol=100 * torch.finfo(narrow).eps)
    cross_entropy(logits.float(), labels).backward()
    assert leaf.grad.isfinite().all()
    half.eval()
    assert half(leaf).dtype == narrow


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("assign", [False, True])
def test_narrow_heads_go_on_from_a_state_as_if_they_had_not_stopped(
    single, nearest, batches, narrow, assign
):
    """What is averaged over batches is float32 from the start, and stays it when converted."""
    fresh = copy.deepcopy(nearest).to(narrow)
    trained = copy.deepcopy(nearest).to(narrow)
    assert trained.weight.dtype == narrow
    assert trained.proximal.dtype == trained.class_means.running_means.dtype == torch.float32
    dtypes = {name: value.dtype for name, value in trained.state_dict().items()}
    for features, labels in batches:
        trained(features.to(narrow), labels)
    assert {name: value.dtype for name, value in trained.state_dict().items()} == dtypes
    fresh.load_state_dict(copy.deepcopy(trained.state_dict()), assign=assign)
    for features, labels in batches:
        logits = [head(features.to(narrow), labels) for head in (trained, fresh)]
        assert torch.equal(*logits)
    assert_same_state(fresh, trained)
    # Conversions keep the state: the frame found next is that of the unconverted head.
    there_and_back = copy.deepcopy(trained).float().to(narrow)
    features, labels = batches[0]
    assert torch.equal(
        there_and_back(features.to(narrow), labels), trained(features.to(narrow), labels)
    )


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_gradients_that_overflow_leave_the_state_alone(single, nearest, batches, device, bad):
    """As under a GradScaler whose factor is too large: that step is skipped, and training goes on."""
    nearest = nearest.float()
    expected = copy.deepcopy(nearest)
    backbone = nn.Linear(D, D, device=device)
    for number, (features, labels) in enumerate(batches):
        h = backbone(features.float())
        loss = cross_entropy(nearest(h, labels), labels)
        expected(h.detach(), labels)
        (loss * (bad if number % 2 else 1.0)).backward()
        assert_same_state(nearest, expected)
        assert nearest.weight.isfinite().all()
        assert backbone.weight.grad.isfinite().all() == (number % 2 == 0)
        backbone.zero_grad()


def test_grad_scaler(single, nearest, batches, device):
    nearest = nearest.float()
    backbone = nn.Linear(D, D, device=device)
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    # The first factor overflows float32 in the backward pass, and is halved until it does not.
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**127, growth_interval=10**6)
    changed = []
    for features, labels in batches * 3:
        before = backbone.weight.detach().clone()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = nearest(backbone(features.float()), labels)
            loss = cross_entropy(logits.float() * 100, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert backbone.weight.isfinite().all()
        changed.append(not torch.equal(backbone.weight, before))
    assert not changed[0]
    assert changed[-1]
    assert nearest.weight.shape == (K, D)
    assert nearest.weight.isfinite().all()
