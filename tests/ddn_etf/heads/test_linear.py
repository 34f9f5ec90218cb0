from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from ddn_etf.heads import LinearHead
from tests.ddn_etf.heads.cases import D, K, N


def test_linear_head_is_a_linear_layer(batches):
    features, labels = batches[0]
    head, layer = LinearHead(D, K).to(features), torch.nn.Linear(D, K).to(features)
    assert head.state_dict().keys() == layer.state_dict().keys()
    layer.load_state_dict(head.state_dict())
    assert torch.equal(head(features, labels), layer(features))
    bound = 1 / math.sqrt(D)
    assert 0.5 * bound < head.weight.abs().max() <= bound
    without = LinearHead(D, K, bias=False)
    assert dict(without.named_parameters()).keys() == {"weight"}
    assert torch.count_nonzero(without.bias) == 0


def test_unit_rows_follow_every_optimiser_step(batches, tolerance):
    head = LinearHead(D, K, temperature=5.0, unit_rows=True).to(batches[0][0])
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for features, labels in batches:
        optimizer.zero_grad()
        before = head.weight.detach().clone()
        loss = cross_entropy(head(features, labels), labels)
        used = head.weight.detach().clone()
        assert_close(used, before / before.norm(dim=1, keepdim=True))
        loss.backward()
        # The gradient is that of the weight as it is used, not of its normalisation.
        h, W = head.normalize(features), used.requires_grad_()
        (expected,) = torch.autograd.grad(cross_entropy(h @ W.mT + head.bias, labels), W)
        assert_close(head.weight.grad, expected)
        optimizer.step()
        assert (head.weight.norm(dim=1) - 1).abs().max() > 1e-3
    head.eval()(features)
    assert_close(head.weight.norm(dim=1), torch.ones_like(head.bias), rtol=0, atol=tolerance.value)


@given(st.integers(1, 40), st.integers(1, 600), st.integers(0, 2**31))
def test_renormalising_twice_changes_nothing(dtype, rows, dim, seed):
    torch.manual_seed(seed)
    head = LinearHead(dim, rows, unit_rows=True).to(dtype)
    torch.nn.init.normal_(head.weight)
    head.eval()(torch.zeros(1, dim, dtype=dtype))
    once = head.weight.detach().clone()
    head(torch.zeros(1, dim, dtype=dtype))
    assert torch.equal(head.weight, once)


def test_unit_rows_leave_zero_rows_alone_and_work_in_inference_mode():
    head = LinearHead(D, K, unit_rows=True)
    torch.nn.init.zeros_(head.weight)
    with torch.inference_mode():
        logits = head.eval()(torch.randn(N, D))
    assert_close(logits, head.bias.detach().expand(N, K))
    assert torch.count_nonzero(head.weight) == 0


def test_sizes_of_a_linear_head():
    with pytest.raises(ValueError, match="dim must be at least 1"):
        LinearHead(0, K)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        LinearHead(D, 0)
    assert LinearHead(D, 1)(torch.randn(2, D)).shape == (2, 1)
