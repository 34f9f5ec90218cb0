"""Every head in turn, and a few batches for it."""

from __future__ import annotations

import pytest
import torch

from tests.ddn_etf.heads.cases import HEADS, NEAREST, D, K, N


@pytest.fixture(autouse=True)
def _default_dtype(dtype):
    """Heads are made in the dtype of the test, so that their frames are rounded to it once."""
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=HEADS)
def head(request, device):
    return HEADS[request.param]().to(device)


@pytest.fixture(params=NEAREST)
def nearest(request, device):
    return HEADS[request.param]().to(device)


@pytest.fixture
def batches(dtype, device):
    labels = torch.arange(N, device=device) % K
    centres = torch.randn(K, D, dtype=dtype, device=device)
    return [
        (centres[labels] + torch.randn(N, D, dtype=dtype, device=device), labels) for _ in range(6)
    ]
