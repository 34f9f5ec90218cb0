from __future__ import annotations

import torch

from ddn_etf.frames import simplex_etf
from ddn_etf.heads import FixedETFHead
from tests.ddn_etf.heads.cases import D, K


def test_fixed_etf_never_changes(batches):
    head = FixedETFHead(D, K).to(batches[0][0])
    assert not list(head.parameters())
    expected = simplex_etf(K, D).to(batches[0][0])
    for features, labels in batches:
        head(features, labels)
        assert torch.equal(head.weight, expected)
    assert torch.count_nonzero(head.bias) == 0
    rotated = FixedETFHead(D, K, generator=torch.Generator().manual_seed(3))
    expected = simplex_etf(K, D, generator=torch.Generator().manual_seed(3))
    assert torch.equal(rotated.weight, expected)
