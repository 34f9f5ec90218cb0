from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from ddn.errors import SolveError
from ddn_etf.frames import simplex_etf
from ddn_etf.heads import FixedETFHead, NearestETFHead
from ddn_etf.metrics import neural_collapse
from tests.ddn_etf.heads.cases import D, K, N, assert_same_state, with_value


class NaiveNearestETF:
    """The published training step in NumPy: moving average, then the polar factor by an SVD."""

    def __init__(self, temperature=5.0, proximal_weight=1e-3, form="intrinsic"):
        self.temperature, self.proximal_weight = temperature, proximal_weight
        M = np.eye(K) - 1 / K
        contrasts = np.linalg.svd(M)[0][:, : K - 1]
        self.factor = M if form == "published" else contrasts
        self.R, self.t, self.V = np.zeros((D, K)), 0, None
        canonical = math.sqrt(K / (K - 1)) * np.eye(D, K) @ M
        self.start = math.sqrt((K - 1) / K) * canonical @ self.factor
        if form == "published":
            self.start = np.eye(D, K)

    def polar(self, Y, V):
        C = 2 * Y @ self.factor / math.sqrt(K - 1) + self.proximal_weight * V
        U, _, Vh = np.linalg.svd(C, full_matrices=False)
        return U @ Vh

    def __call__(self, features, labels):
        h = self.temperature * features / np.linalg.norm(features, axis=1, keepdims=True)
        self.t += 1
        alpha = max(2 / (self.t + 1), 1e-4)
        mu_G = h.mean(axis=0)
        for k in set(labels.tolist()):
            self.R[:, k] += alpha * (h[labels == k].mean(axis=0) - mu_G - self.R[:, k])
        Y = self.R / np.linalg.norm(self.R)
        if self.V is None:
            self.V = self.polar(Y, self.start)
        self.V = self.polar(Y, self.V)
        W = math.sqrt(K / (K - 1)) * self.factor @ self.V.T
        b = -W @ mu_G
        return h @ W.T + b, W, b


@pytest.mark.parametrize("form", ["intrinsic", "published"])
def test_nearest_etf_is_the_published_training_step(batches, dtype, tolerance, form):
    head = NearestETFHead(D, K, form=form).to(batches[0][0])
    naive = NaiveNearestETF(form=form)
    generator = torch.Generator().manual_seed(0)
    for features, labels in batches:
        kept = torch.rand(N, generator=generator).to(features) < 0.3
        kept[0] = True
        h, y = features[kept], labels[kept]
        logits = head(h, y)
        expected = naive(h.cpu().double().numpy(), y.cpu().numpy())
        actual = (logits, head.weight, head.bias)
        for found, value in zip(actual, expected, strict=True):
            expected_value = torch.tensor(value).to(found)
            assert_close(found, expected_value, rtol=0, atol=tolerance.gradient)


def test_nearest_etf_is_a_simplex_etf_in_every_step(nearest, batches, tolerance):
    identity = torch.eye(K).to(batches[0][0])
    gram = (K * identity - 1) / (K - 1)
    assert not list(nearest.parameters())
    for features, labels in batches:
        nearest(features, labels)
        assert_close(nearest.weight @ nearest.weight.mT, gram, rtol=0, atol=10 * tolerance.value)


def test_nearest_etf_follows_the_class_means(batches):
    """Features on a rotated simplex frame: the classifier turns there in one step."""
    features, labels = batches[0]
    generator = torch.Generator().manual_seed(0)
    frame = simplex_etf(K, D, generator=generator).to(features)
    head = NearestETFHead(D, K).to(features)
    head(frame[labels], labels)
    assert_close(head.weight, frame, rtol=0, atol=1e-3)
    metrics = neural_collapse(head.normalize(frame[labels]), labels, head.weight, head.bias)
    assert metrics["NC3"] < 1e-3
    assert metrics["accuracy"] == 100


def test_nearest_etf_before_training_is_canonical(nearest, batches):
    features, _ = batches[0]
    assert_close(nearest.weight, simplex_etf(K, D).to(features))
    logits = nearest.eval()(features)
    assert_close(logits, nearest.normalize(features) @ simplex_etf(K, D).to(features).mT)
    # The proximal point of the first step has the same frame.
    assert_close(nearest.node.weight(nearest.proximal), nearest.weight)


def test_nearest_etf_in_the_smallest_dimension(dtype, device):
    head = NearestETFHead(K - 1, K).to(device=device, dtype=dtype)
    assert_close(head.weight, simplex_etf(K, K - 1).to(head.weight))
    labels = torch.arange(12, device=device) % K
    head(torch.randn(12, K - 1, dtype=dtype, device=device), labels)
    assert_close(head.weight.norm(dim=1), torch.ones_like(head.bias))


def test_evaluation_does_not_touch_the_state(nearest, batches):
    nearest(*batches[0])
    before = copy.deepcopy(nearest)
    nearest.eval()(batches[1][0])
    nearest(*batches[1])
    assert_same_state(nearest, before)


def test_gradient_through_the_frame_can_be_left_out(batches):
    features, labels = batches[0]
    gradients = {}
    for through in (True, False):
        head = NearestETFHead(D, K, gradient_through_frame=through).to(features)
        leaf = features.clone().requires_grad_()
        cross_entropy(head(leaf, labels), labels).backward()
        gradients[through] = leaf.grad
    # Without it the weight is a constant, but the mean in the bias is not.
    leaf = features.clone().requires_grad_()
    h = head.normalize(leaf)
    cross_entropy((h - h.mean(dim=0)) @ head.weight.mT, labels).backward()
    assert_close(gradients[False], leaf.grad)
    assert (gradients[True] - gradients[False]).abs().max() > 1e-3 * leaf.grad.abs().max()


DEGENERATE = {
    "all means zero": lambda h, y: (torch.ones_like(h), y),
    "zero features": lambda h, y: (torch.zeros_like(h), y),
    "one class": lambda h, y: (h, torch.zeros_like(y)),
    "one sample": lambda h, y: (h[:1], y[:1]),
    "two classes": lambda h, y: (h, y % 2),
    "equal means": lambda h, y: (h[y // 2], y),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_first_batches_have_a_defined_result(nearest, batches, tolerance, name):
    features, labels = DEGENERATE[name](*batches[0])
    leaf = features.clone().requires_grad_()
    logits = nearest(leaf, labels)
    cross_entropy(logits, labels).backward()
    assert logits.isfinite().all()
    assert leaf.grad.isfinite().all()
    identity = torch.eye(K).to(features)
    gram = (K * identity - 1) / (K - 1)
    assert_close(nearest.weight @ nearest.weight.mT, gram, rtol=0, atol=10 * tolerance.value)
    if name in ("all means zero", "zero features", "one class", "one sample"):
        # Nothing is known of the classes, so the frame stays where it was.
        assert_close(nearest.weight, simplex_etf(K, D).to(features), rtol=0, atol=tolerance.value)
    nearest(*batches[1])
    assert nearest.weight.isfinite().all()


def test_without_validation_the_node_notices(batches):
    features, labels = batches[0]
    head = NearestETFHead(D, K, validate=False).to(features)
    assert torch.equal(head(features, labels), NearestETFHead(D, K).to(features)(features, labels))
    before = copy.deepcopy(head)
    with pytest.raises(SolveError, match="not finite"):
        head(with_value(features, torch.nan), labels)
    assert_same_state(head, before)
    assert torch.equal(head(*batches[1]), before(*batches[1]))


def test_free_features_collapse_sooner_than_with_a_fixed_frame(dtype, device):
    """Unconstrained features under gradient descent, as in Markou, Ajanthan and Gould (2024)."""
    num_classes, dim, temperature = 10, 64, 5.0
    labels = torch.arange(200, device=device) % num_classes
    exponent = -temperature * num_classes / (num_classes - 1)
    lower_bound = math.log1p((num_classes - 1) * math.exp(exponent))
    steps, metrics = {}, {}
    for make in (FixedETFHead, NearestETFHead):
        torch.manual_seed(0)
        features = torch.nn.Parameter(torch.randn(200, dim, dtype=dtype).to(device))
        head = make(dim, num_classes).to(features)
        optimizer = torch.optim.SGD([features], lr=100.0, momentum=0.9)
        excess = []
        while not excess or excess[-1] > 1e-3:
            optimizer.zero_grad()
            loss = cross_entropy(head(features, labels), labels)
            loss.backward()
            optimizer.step()
            excess.append(loss.item() - lower_bound)
            assert len(excess) < 400
        assert min(excess) > 0
        steps[make] = (next(t for t, e in enumerate(excess) if e < 1e-2), len(excess))
        h = head.eval().normalize(features)
        metrics[make] = neural_collapse(h, labels, head.weight, head.bias)
    assert steps[NearestETFHead][0] < steps[FixedETFHead][0]
    assert steps[NearestETFHead][1] < steps[FixedETFHead][1]
    for found in metrics.values():
        assert found["accuracy"] == 100
        assert found["NC1"] < 1e-3
        assert found["NC3"] < 1e-2


@pytest.mark.parametrize("form", ["intrinsic", "published"])
def test_nearest_etf_can_be_made_without_memory_and_filled_later(form):
    whole = NearestETFHead(8, 5, form=form)
    with torch.device("meta"):
        empty = NearestETFHead(8, 5, form=form)
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(whole.state_dict())
    features, labels = torch.randn(20, 8), torch.arange(20) % 5
    assert torch.equal(filled(features, labels), whole(features, labels))
