"""Last layers that drop in after any backbone; they differ in where the classifier comes from."""

from __future__ import annotations

from ddn_etf.heads.base import Head, HeadOutput
from ddn_etf.heads.fixed_etf import FixedETFHead
from ddn_etf.heads.fixed_frame import FixedFrameHead
from ddn_etf.heads.hierarchy_aware import HAFrameHead, NearestHAFrameHead
from ddn_etf.heads.linear import LinearHead
from ddn_etf.heads.nearest import NearestHead
from ddn_etf.heads.nearest_etf import NearestETFHead
from ddn_etf.heads.nearest_frame import NearestFrameHead
from ddn_etf.heads.warm_up import WarmUpHead

__all__ = [
    "FixedETFHead",
    "FixedFrameHead",
    "HAFrameHead",
    "Head",
    "HeadOutput",
    "LinearHead",
    "NearestETFHead",
    "NearestFrameHead",
    "NearestHAFrameHead",
    "NearestHead",
    "WarmUpHead",
]
