"""Schedules, warm-up and class-balanced means."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from ddn.errors import ShapeError
from ddn_etf.errors import LabelError
from ddn_etf.heads import FixedETFHead, LinearHead, NearestETFHead, WarmUpHead
from ddn_etf.schedules import CosineSchedule, LinearSchedule
from tests.ddn_etf.heads.cases import D, K, N, assert_same_state


@pytest.mark.parametrize("make", [LinearHead, FixedETFHead, NearestETFHead])
def test_temperature_follows_its_schedule(make, batches):
    features, labels = batches[0]
    head = make(D, K, temperature=LinearSchedule(1.0, 5.0, 4)).to(features)
    for expected in (1.0, 2.0, 3.0, 4.0, 5.0, 5.0):
        assert head.temperature == expected
        head(features, labels)
        lengths = head.normalize(features).norm(dim=1)
        assert_close(lengths, torch.full_like(lengths, expected))
        state = copy.deepcopy(head.state_dict())
        head.advance()
    resumed = make(D, K, temperature=LinearSchedule(1.0, 5.0, 4)).to(features)
    resumed.load_state_dict(state)
    assert resumed.temperature == 5.0
    resumed.advance()
    assert_same_state(resumed, head)


def test_without_a_schedule_advancing_changes_nothing(head):
    before = copy.deepcopy(head)
    head.advance()
    assert_same_state(head, before)
    assert "schedule_step" not in head.state_dict()


def test_all_batches_count_as_seen_at_the_present_temperature(batches, tolerance):
    """h is proportional to τ: a head whose τ has changed equals one that had it from the start."""
    features = batches[0][0]
    changing = NearestETFHead(D, K, temperature=LinearSchedule(1.0, 3.0, 1)).to(features)
    constant = NearestETFHead(D, K, temperature=3.0).to(features)
    for h, labels in batches[:3]:
        changing(h, labels)
        constant(h, labels)
    changing.advance()
    changing.eval(), constant.eval()
    close = {"rtol": 0, "atol": 100 * tolerance.value}
    assert_close(changing(features), constant(features), **close)
    changing.train(), constant.train()
    assert_close(changing(*batches[3]), constant(*batches[3]), **close)


def test_proximal_weight_follows_its_schedule(batches):
    features, labels = batches[0]
    schedule = CosineSchedule(1.0, 1e-3, 2)
    head = NearestETFHead(D, K, proximal_weight=schedule).to(features)
    assert head.proximal_weight == head.node.proximal_weight == 1.0
    before = head.weight
    strong = copy.deepcopy(head)
    strong(features, labels)
    head.advance(2)
    assert head.proximal_weight == pytest.approx(1e-3)
    head(features, labels)
    # The proximal point holds the frame back.
    assert (strong.weight - before).norm() < (head.weight - before).norm()


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("temperature", lambda step: 1.0 - step), ("proximal_weight", LinearSchedule(1.0, 0.0, 1))],
)
def test_values_that_are_not_positive_are_refused(name, schedule):
    head = NearestETFHead(D, K, **{name: schedule})
    with pytest.raises(ValueError, match=rf"{name} must be a positive number.* in step 1"):
        head.advance()
    assert head.schedule_step == 0
    assert getattr(head, name) == 1.0
    with pytest.raises(ValueError, match=rf"{name} must be a positive number"):
        NearestETFHead(D, K, **{name: lambda step: math.nan})
    with pytest.raises(ValueError, match="steps must be at least 1"):
        head.advance(0)


def warm_up(steps=None):
    return WarmUpHead(LinearHead(D, K, temperature=5.0), NearestETFHead(D, K), steps)


def test_warm_up_learns_first_and_follows_then(batches):
    head = warm_up(steps=2).to(batches[0][0])
    learned, nearest = copy.deepcopy(head.learned), copy.deepcopy(head.nearest)
    for features, labels in batches[:2]:
        assert head.active is head.learned
        assert head.weight is head.learned.weight
        assert torch.equal(head(features, labels), learned(features, labels))
        nearest.class_means(nearest.normalize(features), labels)
    assert head.active is head.nearest
    assert_same_state(head.nearest, nearest)
    for features, labels in batches[2:]:
        assert torch.equal(head(features, labels), nearest(features, labels))
    assert head.weight is head.nearest.weight
    head.eval()
    assert torch.equal(head(batches[0][0]), nearest.eval()(batches[0][0]))


def test_warm_up_ends_at_a_call_and_goes_on_from_a_checkpoint(batches):
    head = warm_up().to(batches[0][0])
    for features, labels in batches:
        head(features, labels)
    assert head.active is head.learned
    head.finish()
    assert head.active is head.nearest
    fresh = warm_up().to(batches[0][0])
    fresh.load_state_dict(head.state_dict())
    assert fresh.active is fresh.nearest
    assert torch.equal(fresh(*batches[0]), head(*batches[0]))
    counted = warm_up(steps=3).to(batches[0][0])
    counted(*batches[0])
    resumed = warm_up(steps=3).to(batches[0][0])
    resumed.load_state_dict(counted.state_dict())
    for features, labels in batches[1:4]:
        assert torch.equal(resumed(features, labels), counted(features, labels))
    assert resumed.finished
    assert resumed.step == 3


def test_warm_up_checks_what_it_is_given(batches):
    features, labels = batches[0]
    head = warm_up(steps=2).to(features)
    before = copy.deepcopy(head)
    with pytest.raises(LabelError):
        head(features, labels + 1)
    assert_same_state(head, before)
    with pytest.raises(ShapeError, match=r"\(d, K\) = \(6, 4\)"):
        WarmUpHead(LinearHead(D, K), NearestETFHead(D, K - 1))
    with pytest.raises(ValueError, match="steps must be at least 0"):
        warm_up(steps=-1)
    assert warm_up(steps=0).active.proximal is not None


def test_balanced_means_do_not_depend_on_the_class_sizes(batches, tolerance):
    """Copies of the samples of one class change nothing; with the mean of samples they do."""
    features, labels = batches[0]
    copies = torch.cat([torch.arange(N), *[(labels == 0).nonzero().flatten().cpu()] * 20])
    copies = copies.to(labels.device)
    changed = {}
    for balanced in (True, False):
        one = NearestETFHead(D, K, class_balanced=balanced).to(features)
        many = copy.deepcopy(one)
        one(features, labels), many(features[copies], labels[copies])
        changed[balanced] = max(
            (one.weight - many.weight).abs().max(), (one.bias - many.bias).abs().max()
        )
    assert changed[True] < 100 * tolerance.value
    assert changed[False] > 1e-2


def test_balanced_and_published_agree_on_balanced_batches(batches, tolerance):
    features, labels = batches[0]
    published = NearestETFHead(D, K).to(features)
    balanced = NearestETFHead(D, K, class_balanced=True).to(features)
    gradients = []
    for head in (published, balanced):
        leaf = features.clone().requires_grad_()
        cross_entropy(head(leaf, labels), labels).backward()
        gradients.append(leaf.grad)
    close = {"rtol": 0, "atol": 100 * tolerance.value}
    assert_close(published.weight, balanced.weight, **close)
    assert_close(published.bias, balanced.bias, **close)
    assert_close(*gradients, **close)


def test_balanced_means_against_the_definition(batches):
    features, labels = batches[0]
    present = labels != 2
    h, y = features[present][:10], labels[present][:10]
    head = NearestETFHead(D, K, class_balanced=True, temperature=None).double()
    Y, mean = head.class_means.average_in(h.double().cpu(), y.cpu())
    means = {k: h[y == k].double().cpu().mean(dim=0) for k in (0, 1, 3)}
    expected = sum(means.values()) / 3
    assert_close(mean, expected)
    R = torch.stack([means[k] - expected if k in means else 0 * expected for k in range(K)], 1)
    assert_close(Y, R / R.norm())


def test_gradient_of_balanced_means(batches):
    features, labels = batches[0]
    leaf = features.double().clone().requires_grad_()
    start = NearestETFHead(D, K, class_balanced=True).double().to(features.device)
    start(features.double(), labels)

    def loss(leaf):
        return cross_entropy(copy.deepcopy(start)(leaf, labels[:7]), labels[:7])

    assert torch.autograd.gradcheck(loss, leaf[:7].detach().clone().requires_grad_())


def test_right_after_a_warm_up_evaluation_uses_what_has_been_learned():
    learned = LinearHead(8, 5, temperature=5.0)
    head = WarmUpHead(learned, NearestETFHead(8, 5), 2).train()
    features, labels = torch.randn(20, 8), torch.arange(20) % 5
    for _ in range(2):
        head(features, labels)
    assert torch.equal(head.eval()(features), learned.eval()(features))
    head.train()(features, labels)
    assert torch.equal(head.eval()(features), head.nearest(features))
    assert not torch.equal(head(features), learned(features))
