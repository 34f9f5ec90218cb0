from __future__ import annotations

import copy
import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn_etf.class_means import ClassMeans, CumulativeAverage, ExponentialAverage

AVERAGES = [
    ExponentialAverage(),
    ExponentialAverage(floor=0.6),
    ExponentialAverage(per_class=True),
    CumulativeAverage(),
]


def naive_class_means(batches, num_classes, average):
    """The definition, one batch, one class and one sample at a time."""
    dim = batches[0][0].shape[1]
    R = np.zeros((dim, num_classes))
    times, samples = np.zeros(num_classes), np.zeros(num_classes)
    for t, (features, labels) in enumerate(batches, start=1):
        global_mean = sum(features) / len(features)
        for k in range(num_classes):
            members = [h for h, y in zip(features, labels, strict=True) if y == k]
            if not members:
                continue
            deviation = sum(members) / len(members) - global_mean
            times[k] += 1
            samples[k] += len(members)
            if isinstance(average, CumulativeAverage):
                alpha = len(members) / samples[k]
            else:
                alpha = max(2 / ((times[k] if average.per_class else t) + 1), average.floor)
            R[:, k] = (1 - alpha) * R[:, k] + alpha * deviation
    return R


def random_batch(generator, size, dim, num_classes):
    features = generator.normal(size=(size, dim)) + generator.normal(size=dim)
    return features, generator.integers(num_classes, size=size)


def as_tensors(batch, dtype=torch.float64, device="cpu"):
    features, labels = batch
    return torch.tensor(features, dtype=dtype, device=device), torch.tensor(labels, device=device)


@pytest.fixture
def batch(dtype, device):
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 2, 0], device=device)
    return torch.randn(8, 4, dtype=dtype, device=device), labels


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same_state(module, state):
    assert module.state_dict().keys() == state.keys()
    for name, value in module.state_dict().items():
        assert_close(value, state[name], rtol=0, atol=0)


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    num_classes=st.integers(2, 5),
    dim=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_agrees_with_the_definition(
    dtype, device, tolerance, average, sizes, num_classes, dim, seed
):
    generator = np.random.default_rng(seed)
    batches = [random_batch(generator, size, dim, num_classes) for size in sizes]
    class_means = ClassMeans(num_classes, dim, average).to(device=device, dtype=dtype)
    for used in range(1, len(batches) + 1):
        Y = class_means(*as_tensors(batches[used - 1], dtype, device))
        expected = naive_class_means(batches[:used], num_classes, average)
        close = {"rtol": 0, "atol": 10 * tolerance.value}
        R = torch.tensor(expected, dtype=dtype, device=device)
        assert_close(class_means.running_means, R, **close)
        norm = R.norm()
        if norm > 1e-3:  # nothing but rounding errors remains of a batch of one class
            assert_close(Y, R / norm, rtol=0, atol=10 * tolerance.value / norm.item())
            assert_close(Y.norm().item(), 1.0, rtol=0, atol=tolerance.value)
    assert class_means.step.item() == len(batches)
    seen = np.concatenate([labels for _, labels in batches])
    assert class_means.class_samples.tolist() == np.bincount(seen, minlength=num_classes).tolist()


def test_weights_of_the_exponential_average():
    class_means = ClassMeans(2, 1).double()
    labels = torch.tensor([0, 1])
    unit = torch.tensor([[1.0], [-1.0]]).double()
    zero = torch.zeros(2, 1).double()
    class_means(unit, labels)  # α = 1
    assert class_means.running_means.tolist() == [[1.0, -1.0]]
    class_means(zero, labels)  # α = 2/3
    assert class_means.running_means[0, 0].item() == pytest.approx(1 / 3, rel=1e-15)
    class_means(zero, labels)  # α = 1/2
    assert class_means.running_means[0, 0].item() == pytest.approx(1 / 6, rel=1e-15)
    class_means.step.fill_(10**6)
    class_means(zero, labels)  # α = 1e-4, the floor
    assert class_means.running_means[0, 0].item() == pytest.approx((1 - 1e-4) / 6, rel=1e-15)


def test_cumulative_average_weighs_every_sample_the_same():
    class_means = ClassMeans(2, 1, CumulativeAverage()).double()
    class_means(torch.tensor([[1.0], [1.0], [1.0], [-3.0]]).double(), torch.tensor([0, 0, 0, 1]))
    class_means(torch.tensor([[5.0], [-5.0]]).double(), torch.tensor([0, 1]))
    assert_close(class_means.running_means, torch.tensor([[2.0, -4.0]]).double())


def test_absent_class_keeps_its_mean_and_an_unseen_one_is_zero(batch):
    features, labels = batch
    class_means = ClassMeans(4, 4).to(features)
    class_means(features, labels)
    before = class_means.running_means
    assert before[:, 3].tolist() == [0.0] * 4
    present = labels != 1
    Y = class_means(features[present] * 2 + 1, labels[present])
    assert torch.equal(class_means.running_means[:, 1], before[:, 1])
    assert Y[:, 3].tolist() == [0.0] * 4
    assert not torch.equal(class_means.running_means[:, 0], before[:, 0])


def test_class_seen_late_starts_at_its_own_mean_per_class_and_shrunk_otherwise():
    early = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double(), torch.tensor([0, 1])
    late = torch.tensor([[0.0, 3.0], [0.0, -3.0]]).double(), torch.tensor([2, 0])
    for per_class, expected in ((True, 3.0), (False, 3.0 * 2 / 11)):
        class_means = ClassMeans(3, 2, ExponentialAverage(per_class=per_class)).double()
        for _ in range(9):
            class_means(*early)
        class_means(*late)
        assert class_means.running_means[1, 2].item() == pytest.approx(expected, rel=1e-14)


def test_gradient_reaches_the_current_batch_only(batch):
    features, labels = batch
    class_means = ClassMeans(3, 4).to(features)
    earlier = features.clone().requires_grad_()
    class_means(earlier, labels)
    history = class_means.running_means
    assert not history.requires_grad
    current = (features + torch.randn_like(features)).requires_grad_()
    cotangent = torch.randn(4, 3, dtype=features.dtype, device=features.device)
    (class_means(current, labels) * cotangent).sum().backward()
    assert earlier.grad is None

    again = current.detach().clone().requires_grad_()
    means = torch.stack([again[labels == k].mean(dim=0) for k in range(3)], dim=1)
    R = history / 3 + (means - again.mean(dim=0)[:, None]) * 2 / 3
    (R / R.norm() * cotangent).sum().backward()
    assert_close(current.grad, again.grad)


def test_derivatives_against_finite_differences(device):
    labels = torch.tensor([0, 1, 1, 3, 0], device=device)
    features = torch.randn(5, 3, dtype=torch.float64, device=device, requires_grad=True)
    trained = ClassMeans(4, 3).to(features)
    trained(torch.randn_like(features), torch.tensor([2, 1, 3, 2, 0], device=device))

    def means(features):
        return copy.deepcopy(trained)(features, labels)

    assert torch.autograd.gradcheck(means, features)
    assert torch.autograd.gradgradcheck(means, features)


def test_second_forward_leaves_the_first_graph_intact(batch):
    features, labels = batch
    gradients = []
    for forwards in (1, 3):
        torch.manual_seed(1)
        class_means = ClassMeans(3, 4).to(features)
        leaf = features.clone().requires_grad_()
        Y = class_means(leaf, labels)
        for _ in range(forwards - 1):
            class_means(leaf, labels)
            class_means.eval()(leaf)
            class_means.train()
        Y.square().mul(torch.arange(12, device=Y.device).reshape(4, 3)).sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_evaluation_returns_what_was_stored(batch):
    features, labels = batch
    class_means = ClassMeans(3, 4).to(features)
    assert torch.count_nonzero(class_means.eval()()) == 0
    Y = class_means.train()(features, labels)
    state = state_of(class_means)
    assert_close(class_means(), Y)
    for arguments in ((), (features * 2,), (features * 2, labels)):
        assert_close(class_means.eval()(*arguments), Y)
    assert_same_state(class_means, state)


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
def test_state_dict_continues_the_average(batch, average):
    features, labels = batch
    trained = ClassMeans(3, 4, average).to(features)
    trained(features, labels)
    trained(features + 1, labels.roll(1))
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    resumed = ClassMeans(3, 4, average).to(features)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    duplicate = copy.deepcopy(trained)
    batch = features * 2, labels.roll(2)
    expected = trained(*batch)
    assert torch.equal(resumed(*batch), expected)
    assert torch.equal(duplicate(*batch), expected)
    assert_same_state(resumed, state_of(trained))


def test_any_object_with_a_weight_is_an_average(batch):
    @dataclass(frozen=True)
    class Latest:
        def weight(self, counts):
            return torch.ones_like(counts.step)

    features, labels = batch
    class_means = ClassMeans(3, 4, Latest()).to(features)
    class_means(features, labels)
    Y = class_means(features * 3 + 1, labels)
    assert_close(Y, ClassMeans(3, 4).to(features)(features, labels))


def test_representation_shows_the_options():
    text = repr(ClassMeans(3, 4, CumulativeAverage(), validate=False))
    assert "num_classes=3" in text
    assert "CumulativeAverage()" in text
    assert "validate=False" in text
