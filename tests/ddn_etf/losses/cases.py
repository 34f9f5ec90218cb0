"""Losses, outputs of a head, and their known values."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.nn.functional import linear

from ddn_etf import losses
from ddn_etf.frames import simplex_etf
from ddn_etf.heads import HeadOutput

REFERENCE = json.loads(
    (Path(__file__).parents[2] / "reference_values_hierarchy.json").read_text("utf-8")
)

N, D, K = 7, 5, 4

EVERY_LOSS = {
    **losses.LOSSES,
    "temperature": losses.CrossEntropy(temperature=3.0),
    "class weights": losses.CrossEntropy(class_weights=torch.tensor([1.0, 2.0, 0.5, 3.0])),
    "scale": losses.MeanSquaredError(scale=4.0),
    "focal 0.5": losses.Focal(gamma=0.5),
    "target": losses.DotRegression(target=5.0),
    "cosines only": losses.HierarchyAware(alpha=1.0, cosines=2 * torch.eye(K)),
    "large alpha": losses.HierarchyAware(alpha=2.0),
    "scaled frame": losses.CenterCollapse(frame=3 * simplex_etf(K, D), scale=0.5),
}


def output(h, weight, bias=None):
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return HeadOutput(h, weight, bias, linear(h, weight, bias))


def random_batch(dtype=torch.float64, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    h, weight = (torch.randn(n, D, generator=generator).to(device, dtype) for n in (N, K))
    bias = torch.randn(K, generator=generator).to(device, dtype)
    return (h, weight, bias), torch.tensor([3, 0, 2, 2, 3, 0, 3], device=device)
