"""Last layers that drop in after any backbone; they differ in where the classifier comes from."""

from __future__ import annotations

from ddn_etf.heads.base import Head, HeadOutput
from ddn_etf.heads.fixed_etf import FixedETFHead
from ddn_etf.heads.linear import LinearHead
from ddn_etf.heads.nearest_etf import NearestETFHead

__all__ = ["FixedETFHead", "Head", "HeadOutput", "LinearHead", "NearestETFHead"]
