"""Known values of each loss, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf import losses
from ddn_etf.errors import FrameSizeError
from ddn_etf.frames import simplex_etf
from tests.ddn_etf.losses.cases import REFERENCE, D, K, output, random_batch
from tests.tolerances import TOLERANCES

TOLERANCE = TOLERANCES[torch.float64]


def arrays():
    tensors, labels = random_batch()
    z = output(*tensors).logits.numpy()
    return output(*tensors), labels, z, log_softmax(z, axis=1)[np.arange(len(z)), labels.numpy()]


def equal(found, expected):
    assert found.item() == pytest.approx(expected, rel=TOLERANCE.value)


def test_cross_entropy():
    batch, labels, z, log_p = arrays()
    equal(losses.CrossEntropy()(batch, labels), -log_p.mean())
    softer = log_softmax(z / 2.5, axis=1)[np.arange(len(z)), labels.numpy()]
    equal(losses.CrossEntropy(temperature=2.5)(batch, labels), -softer.mean())
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    a = weights.numpy()[labels.numpy()]
    loss = losses.CrossEntropy(class_weights=weights)
    equal(loss(batch, labels), -(a * log_p).sum() / a.sum())


def test_label_smoothing():
    batch, labels, z, _ = arrays()
    q = 0.8 * np.eye(K)[labels.numpy()] + 0.2 / K
    expected = -(q * log_softmax(z, axis=1)).sum(axis=1).mean()
    equal(losses.LabelSmoothing(0.2)(batch, labels), expected)


def test_mean_squared_error():
    batch, labels, z, _ = arrays()
    expected = ((z - 3 * np.eye(K)[labels.numpy()]) ** 2).sum() / (2 * len(z))
    equal(losses.MeanSquaredError(scale=3.0)(batch, labels), expected)


@pytest.mark.parametrize("gamma", [0, 0.5, 2.0])
def test_focal(gamma):
    batch, labels, z, log_p = arrays()
    p = softmax(z, axis=1)[np.arange(len(z)), labels.numpy()]
    equal(losses.Focal(gamma=gamma)(batch, labels), -((1 - p) ** gamma * log_p).mean())


def test_focal_where_the_probability_rounds_to_one():
    h = torch.tensor([[200.0, 0.0]], requires_grad=True)
    loss = losses.Focal(gamma=0.5)(output(h, torch.eye(2)), torch.tensor([0]))
    loss.backward()
    assert loss == 0
    assert torch.equal(h.grad, torch.zeros(1, 2))


def test_dot_regression_of_the_reference():
    case = REFERENCE["dot_regression"]
    h, W, b = (torch.tensor(case[name], dtype=torch.float64) for name in ("features", "W", "b"))
    labels = torch.tensor(case["targets"])
    loss = losses.DotRegression(target=1.0)(output(h, W, b), labels)
    assert loss.item() == pytest.approx(case["loss"], rel=TOLERANCE.reference)


@given(st.floats(0.1, 10), st.integers(0, 100))
def test_dot_regression_sees_only_directions(length, seed):
    (h, weight, bias), labels = random_batch(seed=seed)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (h, weight)]
    expected = ((unit[0] * unit[1][labels]).sum(dim=1) - 1).square().mean() / 2
    loss = losses.DotRegression()
    assert_close(loss(output(length * h, weight, bias), labels), expected)
    logits = output(unit[0], length * unit[1])
    of_logits = losses.DotRegression(target=length)(logits, labels)
    assert_close(of_logits, length**2 * expected)


@pytest.mark.parametrize("name", REFERENCE["haframe"])
@pytest.mark.parametrize(("beta", "alpha"), [(1.0, 0.0), (0.0, 1.0), (0.6, 0.4)])
def test_hierarchy_aware_loss_of_the_reference(name, beta, alpha):
    case = REFERENCE["haframe"][name]
    W = torch.tensor(case["W_official"], dtype=torch.float64)
    h = torch.tensor(case["loss_inputs"]["x"], dtype=torch.float64)
    labels = torch.tensor(case["loss_inputs"]["targets"])
    S = torch.tensor(case["S"], dtype=torch.float64)
    expected = case["loss"][f"beta{beta}_alpha{alpha}"]
    for loss in (losses.HierarchyAware(alpha), losses.HierarchyAware(alpha, S)):
        assert loss.beta == pytest.approx(beta)
        found = loss(output(h, W), labels)
        assert found.item() == pytest.approx(expected, rel=TOLERANCE.reference)


def test_hierarchy_aware_loss_with_a_large_alpha_keeps_the_cross_entropy():
    tensors, labels = random_batch()
    parts = [losses.HierarchyAware(alpha)(output(*tensors), labels) for alpha in (0, 1, 3)]
    assert_close(parts[2], parts[0] + 3 * parts[1])


def test_hierarchy_aware_loss_is_zero_on_the_class_vectors():
    W, labels = simplex_etf(K, D, dtype=torch.float64), torch.arange(K)
    assert_close(losses.HierarchyAware(1.0)(output(3 * W, W), labels).item(), 0.0)


def test_center_collapse():
    tensors, labels = random_batch()
    F = simplex_etf(K, D, dtype=torch.float64).numpy()
    h, y = tensors[0].numpy(), labels.numpy()
    present = np.unique(y)
    assert list(present) == [0, 2, 3]
    centers = np.stack([h[y == k].mean(axis=0) for k in present])
    expected = -log_softmax(2 * centers @ F.T, axis=1)[np.arange(3), present].mean()
    equal(losses.CenterCollapse(scale=2.0)(output(*tensors), labels), expected)
    given_frame = losses.CenterCollapse(frame=2 * torch.tensor(F))
    equal(given_frame(output(*tensors), labels), expected)


def test_center_collapse_counts_every_class_once():
    tensors, labels = random_batch()
    batch = output(*tensors)
    often = torch.cat([torch.arange(7), torch.full((50,), 1)])
    repeated = output(tensors[0][often], *tensors[1:])
    loss = losses.CenterCollapse()
    alone = tensors[0].clone()
    alone[5] = alone[1]  # class 0 has samples 1 and 5
    assert_close(
        loss(output(alone[often], *tensors[1:]), labels[often]),
        loss(output(alone, *tensors[1:]), labels),
    )
    assert loss(repeated, labels[often]) != loss(batch, labels)


def test_weighted_sum():
    tensors, labels = random_batch()
    parts = (losses.CrossEntropy(), losses.DotRegression())
    total = losses.WeightedSum(parts, (2.0, -0.5))(output(*tensors), labels)
    first, second = (part(output(*tensors), labels) for part in parts)
    assert_close(total, 2 * first - first.new_tensor(0.5) * second)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: losses.CrossEntropy(temperature=0), ValueError, "temperature must be a positive"),
        (
            lambda: losses.CrossEntropy(class_weights=[1.0]),
            DtypeError,
            "class_weights must be a tensor",
        ),
        (lambda: losses.CrossEntropy(class_weights=torch.eye(2)), ShapeError, r"shape \(K,\)"),
        (
            lambda: losses.CrossEntropy(class_weights=torch.tensor([1.0, 0.0])),
            ValueError,
            r"class_weights\[1\] is 0.0",
        ),
        (lambda: losses.LabelSmoothing(1.0), ValueError, r"smoothing must lie in \[0, 1\)"),
        (lambda: losses.MeanSquaredError(scale=-1), ValueError, "scale must be a positive"),
        (lambda: losses.Focal(gamma=-0.5), ValueError, "gamma must be a number of at least 0"),
        (lambda: losses.DotRegression(target=0.0), ValueError, "target must be a positive"),
        (lambda: losses.HierarchyAware(alpha=-1), ValueError, "alpha must be"),
        (lambda: losses.HierarchyAware(1, torch.ones(2, 3)), ShapeError, r"shape \(K, K\)"),
        (lambda: losses.HierarchyAware(1, "S"), DtypeError, "cosines must be"),
        (lambda: losses.CenterCollapse(scale=0), ValueError, "scale must be a positive"),
        (lambda: losses.CenterCollapse(torch.ones(3)), ShapeError, r"shape \(K, d\)"),
        (lambda: losses.CenterCollapse("F"), DtypeError, "frame must be"),
        (lambda: losses.WeightedSum((), ()), ValueError, "at least one loss"),
        (
            lambda: losses.WeightedSum((losses.Focal(),), (float("nan"),)),
            ValueError,
            r"weights\[0\] is nan",
        ),
    ],
)
def test_settings_that_make_no_sense(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_settings_that_do_not_fit_the_head():
    tensors, labels = random_batch()
    batch = output(*tensors)
    with pytest.raises(ShapeError, match="2 class weights for 4 classes"):
        losses.CrossEntropy(class_weights=torch.ones(2))(batch, labels)
    with pytest.raises(ShapeError, match="cosines are for 3 classes and the head has 4"):
        losses.HierarchyAware(1.0, torch.eye(3))(batch, labels)
    with pytest.raises(ShapeError, match="frame has shape"):
        losses.CenterCollapse(torch.eye(3))(batch, labels)
    one = output(tensors[0], tensors[1][:1])
    with pytest.raises(FrameSizeError, match="at least 2 classes"):
        losses.Focal()(one, torch.zeros_like(labels))
