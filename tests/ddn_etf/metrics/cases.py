"""Splits with known metrics, random ones and collapsed ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

from ddn_etf.frames import simplex_etf
from tests.tolerances import TOLERANCES

REFERENCE = json.loads((Path(__file__).parents[2] / "reference_values.json").read_text("utf-8"))

SPLITS = REFERENCE["nc_metrics"]

TOLERANCE = TOLERANCES[torch.float64]  # metrics compute in float64 whatever the features are in


def load(split, device="cpu"):
    inputs = SPLITS[split]["inputs"]
    features, weight, bias = (
        torch.tensor(inputs[name], dtype=torch.float64, device=device)
        for name in ("features", "W", "b")
    )
    return features, torch.tensor(inputs["labels"], device=device), weight, bias


@st.composite
def splits(draw):
    K = draw(st.integers(2, 5))
    d = draw(st.integers(1, 7))
    counts = draw(st.lists(st.integers(1, 6), min_size=K, max_size=K))
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    labels = generator.permutation(np.repeat(np.arange(K), counts))
    centres = generator.normal(size=(K, d)) * draw(st.sampled_from([0.1, 1.0, 10.0]))
    features = centres[labels] + generator.normal(size=(len(labels), d)) + generator.normal(size=d)
    return features, labels, generator.normal(size=(K, d)), generator.normal(size=K)


def collapsed(K=4, d=6, n=5, device="cpu"):
    weight = simplex_etf(K, d, dtype=torch.float64, device=device)
    labels = torch.arange(K, device=device).repeat(n)
    return 3 * weight[labels], labels, weight
