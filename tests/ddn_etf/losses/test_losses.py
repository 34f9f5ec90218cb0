"""What holds for every loss."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ddn.errors import DtypeError, ShapeError
from ddn_etf import losses
from ddn_etf.errors import FeatureError, LabelError
from ddn_etf.heads import FixedETFHead, HeadOutput, LinearHead, NearestETFHead
from tests.ddn_etf.losses.cases import EVERY_LOSS, D, K, N, output, random_batch

# Here the weight is a leaf with a gradient, which a loss takes for a learned classifier.
pytestmark = pytest.mark.filterwarnings("ignore::ddn_etf.losses.LearnedClassifierWarning")


@pytest.fixture(params=EVERY_LOSS)
def loss(request):
    return EVERY_LOSS[request.param]


def test_gradient_against_finite_differences(loss, device):
    tensors, labels = random_batch(device=device)
    leaves = [tensor.requires_grad_() for tensor in tensors]

    def value(*leaves):
        return loss(output(*leaves), labels)

    constant_cosines = isinstance(loss, losses.HierarchyAware) and loss.cosines is None
    if constant_cosines:  # cosines of the weight are constants, which differences do not know
        weight = leaves[1].detach()
        assert torch.autograd.gradcheck(lambda h, b: value(h, weight, b), (leaves[0], leaves[2]))
    else:
        assert torch.autograd.gradcheck(value, leaves)
    assert torch.autograd.gradgradcheck(lambda h: value(h, *tensors[1:]), leaves[0])


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision(loss, device, half):
    tensors, labels = random_batch(half, device)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    with torch.autocast(torch.device(device).type, dtype=half):
        found = output(*leaves)
        value = loss(found, labels)
    assert value.dtype == torch.float32
    value.backward()
    assert leaves[0].grad.isfinite().all()
    # Of the same rounded numbers float64 gives the same.
    wide = HeadOutput(
        *(part.double() for part in (found.h, found.weight, found.bias, found.logits))
    )
    assert_close(value.double(), loss(wide, labels), rtol=1e-4, atol=1e-5)


def test_float32_agrees_with_float64(loss, device):
    tensors, labels = random_batch(torch.float32, device)
    exact = loss(output(*(tensor.double() for tensor in tensors)), labels)
    assert_close(loss(output(*tensors), labels).double(), exact, rtol=1e-5, atol=1e-5)
    assert exact.dtype == torch.float64
    assert exact.shape == ()


def test_features_of_zero_have_a_finite_gradient(loss):
    (h, weight, bias), labels = random_batch()
    h = h.clone()
    h[2] = 0
    h.requires_grad_()
    loss(output(h, weight, bias), labels).backward()
    assert h.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e6])
def test_extreme_logits_have_a_finite_gradient(loss, scale):
    (h, weight, bias), labels = random_batch(torch.float32)
    h = (scale * h).requires_grad_()
    loss(output(h, weight, bias), labels).backward()
    assert h.grad.isfinite().all()


def test_order_of_the_samples_does_not_matter(loss):
    (h, weight, bias), labels = random_batch()
    order = torch.randperm(N)
    value = loss(output(h, weight, bias), labels)
    assert_close(loss(output(h[order], weight, bias), labels[order]), value)


@pytest.mark.parametrize("bad", [-1, K])
def test_label_out_of_range(loss, bad):
    tensors, labels = random_batch()
    labels[3] = bad
    with pytest.raises(LabelError, match=rf"labels\[3\] is {bad}, outside 0..3"):
        loss(output(*tensors), labels)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_not_finite(loss, value):
    (h, weight, bias), labels = random_batch()
    h[5, 1] = value
    with pytest.raises(FeatureError, match="NaN or infinity, first in row 5"):
        loss(output(h, weight, bias), labels)


def test_labels_that_do_not_fit(loss):
    (h, weight, bias), labels = random_batch()
    with pytest.raises(ShapeError, match=r"shape \(7,\)"):
        loss(output(h, weight, bias), labels[:-1])
    with pytest.raises(DtypeError, match="integer class indices"):
        loss(output(h, weight, bias), labels.double())
    with pytest.raises(FeatureError, match="batch is empty"):
        loss(output(h[:0], weight, bias), labels[:0])


def test_logits_that_are_no_matrix():
    (h, weight, bias), labels = random_batch()
    with pytest.raises(ShapeError, match="logits must have shape"):
        losses.CrossEntropy()(HeadOutput(h, weight, bias, h[:, 0]), labels)


def test_without_validation_nothing_is_read():
    (h, weight, bias), labels = random_batch()
    h[5] = torch.nan
    assert losses.DotRegression(validate=False)(output(h, weight, bias), labels).isnan()


@pytest.mark.parametrize("head", [LinearHead, FixedETFHead, NearestETFHead])
def test_every_loss_trains_every_head(loss, head):
    torch.manual_seed(0)
    features = torch.randn(40, D, requires_grad=True)
    labels = torch.arange(40) % K
    network, optimizer = head(D, K, temperature=5.0), torch.optim.SGD([features], 0.5)
    values = []
    for _ in range(30):
        value = loss(network.outputs(features, labels), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


def test_registry():
    for name, loss in losses.LOSSES.items():
        assert losses.find_loss(name) is loss
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known losses: cross-entropy"):
        losses.find_loss("hinge")
