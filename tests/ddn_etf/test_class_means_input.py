from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf.class_means import ClassMeans, ExponentialAverage
from ddn_etf.errors import FeatureError, FrameSizeError, LabelError


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


ZERO_BATCHES = {
    "one class": (torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), [1] * 7),
    "one sample": (torch.tensor([[0.1, 0.2, 0.3, 0.4]]), [0]),
    "equal features": (torch.tensor([[0.1, 1e3, -0.3, 7.7]]).repeat(6, 1), [0, 1, 2, 2, 1, 1]),
    "zero features": (torch.zeros(6, 4), [0, 1, 2, 0, 1, 2]),
    "equal means": (
        torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).repeat(3, 1),
        [0] * 5 + [1] * 5 + [2] * 5,
    ),
}


@pytest.mark.parametrize("name", ZERO_BATCHES)
def test_means_without_differences_are_exactly_zero(dtype, device, name):
    features, labels = ZERO_BATCHES[name]
    features = features.to(dtype=dtype, device=device).requires_grad_()
    labels = torch.tensor(labels, device=device)
    class_means = ClassMeans(3, 4).to(features)
    Y = class_means(features, labels)
    assert torch.count_nonzero(Y) == 0
    assert torch.count_nonzero(class_means.running_means) == 0
    assert torch.count_nonzero(class_means.eval()()) == 0
    (gradient,) = torch.autograd.grad((Y * torch.randn_like(Y)).sum(), features, create_graph=True)
    assert torch.count_nonzero(gradient) == 0
    # The next batch counts as usual, with α = 2/3.
    different = torch.randn(6, 4, dtype=dtype, device=device)
    labels = torch.tensor([0, 1, 2, 0, 1, 2], device=device)
    Y = class_means.train()(different, labels)
    assert_close(Y, ClassMeans(3, 4).to(different)(different, labels))
    expected = 2 / 3 * (different[0] + different[3] - 2 * different.mean(dim=0)) / 2
    assert_close(class_means.running_means[:, 0], expected)


def test_gradient_flows_through_a_batch_without_differences_if_there_is_a_history(batch):
    features, labels = batch
    class_means = ClassMeans(3, 4).to(features)
    class_means(features, labels)
    equal = torch.ones_like(features).requires_grad_()
    Y = class_means(equal, labels)
    (Y * torch.randn_like(Y)).sum().backward()
    assert equal.grad.abs().max() > 0


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_extreme_scales_neither_overflow_nor_vanish(device, scale):
    labels = torch.tensor([0, 1, 2, 0], device=device)
    features = torch.randn(4, 3, device=device)
    expected = ClassMeans(3, 3).to(device)(features, labels)
    assert_close(ClassMeans(3, 3).to(device)(features * scale, labels), expected)


def test_common_offset_costs_no_digits(device):
    """float32 features near 1000: their differences are exact, so the means must be too."""
    labels = torch.arange(64, device=device) % 4
    features = 1000 + torch.randn(64, 5, device=device)
    expected = ClassMeans(4, 5).to(device).double()(features.double(), labels)
    actual = ClassMeans(4, 5).to(device)(features, labels)
    assert_close(actual.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_averaged_in_single(device, half):
    features = torch.randn(300, 4, device=device).to(half)
    labels = torch.arange(300, device=device) % 3
    class_means = ClassMeans(3, 4).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        Y = class_means(features, labels)
    assert Y.dtype == class_means.running_means.dtype == torch.float32
    expected = ClassMeans(3, 4).to(device).double()(features.double(), labels)
    assert_close(Y.double(), expected, rtol=0, atol=1e-5)


def test_average_takes_the_wider_dtype(device):
    features = torch.randn(6, 4, dtype=torch.float64, device=device)
    labels = torch.tensor([0, 1, 2, 0, 1, 2], device=device)
    class_means, expected = ClassMeans(3, 4).to(device), ClassMeans(3, 4).to(device).double()
    for _ in range(2):
        assert torch.equal(class_means(features, labels), expected(features, labels))
    assert class_means(features.float(), labels).dtype == torch.float64


@pytest.mark.parametrize("integer", [torch.uint8, torch.int16, torch.int32])
def test_every_integer_dtype_is_a_label(batch, integer):
    features, labels = batch
    expected = ClassMeans(3, 4).to(features)(features, labels)
    assert torch.equal(ClassMeans(3, 4).to(features)(features, labels.to(integer)), expected)


def with_value(features, value):
    features = features.clone()
    features[5, 2] = value
    return features


BAD_BATCHES = {
    "NaN": (lambda h, y: (with_value(h, torch.nan), y), FeatureError, "row 5"),
    "infinity": (lambda h, y: (with_value(h, -torch.inf), y), FeatureError, "row 5"),
    "empty": (lambda h, y: (h[:0], y[:0]), FeatureError, "empty"),
    "integer features": (lambda h, y: (h.long(), y), DtypeError, "floating-point"),
    "complex features": (lambda h, y: (h + 0j, y), DtypeError, "floating-point"),
    "array": (lambda h, y: (h.cpu().numpy(), y), DtypeError, "must be a tensor"),
    "vector": (lambda h, y: (h[0], y), ShapeError, r"\(N, 4\)"),
    "wrong width": (lambda h, y: (h[:, :3], y), ShapeError, r"\(N, 4\)"),
    "label too large": (lambda h, y: (h, y.where(y != 1, 3)), LabelError, r"labels\[1\] is 3"),
    "label negative": (lambda h, y: (h, y - 1), LabelError, r"labels\[0\] is -1"),
    "no labels": (lambda h, y: (h, None), LabelError, "missing"),
    "list of labels": (lambda h, y: (h, y.tolist()), DtypeError, "must be a tensor"),
    "float labels": (lambda h, y: (h, y.float()), DtypeError, "integer"),
    "bool labels": (lambda h, y: (h, y > 0), DtypeError, "integer"),
    "one-hot labels": (lambda h, y: (h, y[:, None]), ShapeError, r"\(8,\)"),
    "too few labels": (lambda h, y: (h, y[:-1]), ShapeError, r"\(8,\)"),
    "other device": (lambda h, y: (h, y.to("meta")), DtypeError, "meta"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_bad_batches_are_refused_and_leave_the_state_alone(batch, name):
    spoil, error, message = BAD_BATCHES[name]
    class_means = ClassMeans(3, 4).to(batch[0])
    class_means(*batch)
    state = state_of(class_means)
    with pytest.raises(error, match=message) as raised:
        class_means(*spoil(*batch))
    assert isinstance(raised.value, TypeError if error is DtypeError else ValueError)
    assert_same_state(class_means, state)


def test_without_validation_values_are_not_looked_at(batch):
    features, labels = batch
    class_means = ClassMeans(3, 4, validate=False).to(features)
    assert class_means(with_value(features, torch.nan), labels).isnan().all()
    # Row 1 counts for the global mean only.
    R = ClassMeans(3, 4, validate=False).to(features)
    R(features, labels.index_fill(0, torch.tensor([1], device=labels.device), 7))
    expected = features[4] - features.mean(dim=0)
    assert_close(R.running_means[:, 1], expected)
    with pytest.raises(ShapeError):
        class_means(features[:, :2], labels)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((1, 4), FrameSizeError), ((3, 0), ValueError), ((3.0, 4), TypeError), ((3, "4"), TypeError)],
)
def test_impossible_sizes_are_refused(arguments, error):
    with pytest.raises(error):
        ClassMeans(*arguments)


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_floor_must_be_a_weight(floor):
    with pytest.raises(ValueError, match="floor"):
        ExponentialAverage(floor=floor)
